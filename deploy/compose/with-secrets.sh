#!/bin/sh
# Runs a command with the contents of secret files in its environment: NAME_FILE=/run/secrets/x gives
# NAME; of MongoDB's password, the address of the catalogue.
set -eu
for variable in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)_FILE=.*/\1/p'); do
  case $variable in
    ROBOAO_COOKIE_SECRET | ROBOAO_MONGODB_PASSWORD | DAGSTER_PG_PASSWORD | PANEL_OAUTH_SECRET) ;;
    *) continue ;;
  esac
  file=$(printenv "${variable}_FILE")
  if [ ! -r "$file" ]; then
    echo "the secret file $file (${variable}_FILE) cannot be read by $(id -un)" >&2
    exit 78
  fi
  export "$variable=$(cat "$file")"
  unset "${variable}_FILE"
done
if [ -n "${ROBOAO_MONGODB_PASSWORD:-}" ]; then
  # In an address a password is percent-encoded.
  encoded=$(printenv ROBOAO_MONGODB_PASSWORD | python3 -c \
    'import sys, urllib.parse; print(urllib.parse.quote(sys.stdin.read().rstrip("\n"), safe=""))')
  ROBOAO_CATALOGUE_URL="mongodb://roboao:$encoded@${ROBOAO_MONGODB_HOSTS:-mongodb:27017}/roboao?authSource=roboao&replicaSet=roboao"
  export ROBOAO_CATALOGUE_URL
fi
unset ROBOAO_MONGODB_PASSWORD ROBOAO_MONGODB_HOSTS
if [ -n "${DAGSTER_HOME:-}" ] && [ ! -e "$DAGSTER_HOME/dagster.yaml" ]; then
  mkdir -p "$DAGSTER_HOME"
  cp /etc/roboao/dagster.yaml "$DAGSTER_HOME/.dagster.yaml.$$"
  mv "$DAGSTER_HOME/.dagster.yaml.$$" "$DAGSTER_HOME/dagster.yaml"
fi
exec "$@"
