# shellcheck shell=bash
# A PostgreSQL in Docker for a service that runs on this machine, sourced by scripts/run.sh.
# It listens on a free port of 127.0.0.1 and ends with the service. Its data is in a Docker volume and is there again the
# next time; the volume's name and the password are in .data/, readable by the user alone.

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

with_postgres() { # variable that gets the URL, command...
  local variable=$1 kept=.data/$SERVICE-postgres.env image port running status=0
  local POSTGRES_USER POSTGRES_PASSWORD VOLUME
  shift
  if ! docker info > /dev/null 2>&1; then
    echo "$SERVICE keeps its data in PostgreSQL, and there is no Docker that answers and could run one. Start Docker (make doctor says how), or name a PostgreSQL: $variable=postgresql://user:password@host/name make run SERVICE=$SERVICE" >&2
    return 1
  fi
  if [[ ! -s $kept ]]; then
    mkdir -p .data
    (umask 077 && printf 'POSTGRES_USER=%s\nPOSTGRES_PASSWORD=%s\nVOLUME=%s\n' \
      "${SERVICE//-/_}" "$(random 16)" "$SERVICE-postgres-$(random 4)" > "$kept")
  fi
  # shellcheck source=/dev/null
  . "$kept"
  if [[ -n $(docker ps --quiet --filter "name=^$VOLUME\$") ]]; then
    echo "The PostgreSQL of $SERVICE runs already. End the other make run, or what a killed one has left: docker rm --force $VOLUME" >&2
    return 1
  fi
  image=${POSTGRES_IMAGE:-$(sed -n 's/^POSTGRES_IMAGE=//p' versions.env)}
  # shellcheck disable=SC2064 # the name as it is now
  trap "docker stop '$VOLUME' > /dev/null && docker rm '$VOLUME' > /dev/null" EXIT
  # Not --rm: the daemon would remove it some time after stop has returned, and the next make run find its name taken.
  if [[ -n $(docker ps --all --quiet --filter "name=^$VOLUME\$") ]]; then # the machine was switched off
    docker rm "$VOLUME" > /dev/null
  fi
  docker run --detach --name "$VOLUME" --env-file "$kept" --publish 127.0.0.1::5432 \
    --volume "$VOLUME:/var/lib/postgresql/data" "$image" > /dev/null
  port=$(docker port "$VOLUME" 5432/tcp)
  echo "PostgreSQL runs in Docker until this ends; its data stays in the volume $VOLUME"
  export "$variable=postgresql://$POSTGRES_USER:$POSTGRES_PASSWORD@127.0.0.1:${port##*:}/$POSTGRES_USER"
  # In the background, so that a signal for this shell alone ends the service, too, and before its database.
  "$@" &
  running=$!
  trap 'kill "$running" 2> /dev/null || true' INT TERM HUP
  wait "$running" || status=$?
  if ((status > 128)); then # by the trap
    status=0
    wait "$running" || status=$?
  fi
  return "$status"
}
