#!/bin/sh
# Makes ./secrets once; what is there stays.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
# A key of MongoDB is base64.
[ -e secrets/mongodb_keyfile ] || head -c 576 /dev/urandom | base64 -w 0 > secrets/mongodb_keyfile
for name in mongodb_root_password mongodb_password postgres_password cookie_secret; do
  [ -e "secrets/$name" ] || head -c 48 /dev/urandom | base64 -w 0 | tr '+/' '-_' > "secrets/$name"
done
# Read in the containers by the users 10001 (archive), 999 (PostgreSQL, MongoDB): secrets without a
# swarm are files with the modes that they have here. Nobody else may enter the folder.
chmod 644 secrets/*
chmod 700 secrets
