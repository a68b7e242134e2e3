#!/usr/bin/env bash
# Healthy is a primary that the archive's user can log in to; both are made at the first look.
set -eu
root=(-u root -p "$(cat /run/secrets/mongodb_root_password)" --authenticationDatabase admin)
ROBOAO_PASSWORD=$(cat /run/secrets/mongodb_password)
export ROBOAO_PASSWORD
mongosh --quiet "${root[@]}" --eval '
  try { rs.status() } catch (error) {
    rs.initiate({_id: "roboao", members: [{_id: 0, host: "mongodb:27017"}]})
  }
  for (let tries = 0; tries < 10 && !db.hello().isWritablePrimary; tries++) sleep(1000)
  if (!db.hello().isWritablePrimary) quit(1)
  const archive = db.getSiblingDB("roboao")
  if (!archive.getUser("roboao"))
    archive.createUser({user: "roboao", pwd: process.env.ROBOAO_PASSWORD, roles: ["readWrite"]})
'
