# shellcheck shell=bash
# A PostgreSQL in Docker for a service on this machine, sourced by scripts/run.sh.
# It listens on a free port of 127.0.0.1 and stops with the service. Its data is in a Docker volume and persists across
# runs; the volume's name and the password are in .data/, readable by the user only.

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

with_postgres() { # variable that gets the URL, command...
  local variable=$1 credentials=.data/$SERVICE-postgres.env image port service_pid status=0
  local POSTGRES_USER POSTGRES_PASSWORD VOLUME
  shift
  if ! docker info > /dev/null 2>&1; then
    echo "$SERVICE stores its data in PostgreSQL, and Docker, which would run one, is not responding. Start Docker (see make doctor), or use another PostgreSQL: $variable=postgresql://user:password@host/name make run SERVICE=$SERVICE" >&2
    return 1
  fi
  if [[ ! -s $credentials ]]; then
    mkdir -p .data
    (umask 077 && printf 'POSTGRES_USER=%s\nPOSTGRES_PASSWORD=%s\nVOLUME=%s\n' \
      "${SERVICE//-/_}" "$(random 16)" "$SERVICE-postgres-$(random 4)" > "$credentials")
  fi
  # shellcheck source=/dev/null
  . "$credentials"
  if [[ -n $(docker ps --quiet --filter "name=^$VOLUME\$") ]]; then
    echo "The PostgreSQL of $SERVICE is already running. Stop the other make run, or remove the container of a killed one: docker rm --force $VOLUME" >&2
    return 1
  fi
  image=${POSTGRES_IMAGE:-$(sed -n 's/^POSTGRES_IMAGE=//p' versions.env)}
  # shellcheck disable=SC2064 # expand the name now
  trap "docker stop '$VOLUME' > /dev/null && docker rm '$VOLUME' > /dev/null" EXIT
  # Not --rm: the daemon would remove it some time after stop has returned, and the next make run would find the name in
  # use.
  if [[ -n $(docker ps --all --quiet --filter "name=^$VOLUME\$") ]]; then # left over after a power-off
    docker rm "$VOLUME" > /dev/null
  fi
  docker run --detach --name "$VOLUME" --env-file "$credentials" --publish 127.0.0.1::5432 \
    --volume "$VOLUME:/var/lib/postgresql/data" "$image" > /dev/null
  port=$(docker port "$VOLUME" 5432/tcp)
  echo "PostgreSQL runs in Docker until this command ends; its data persists in the volume $VOLUME"
  export "$variable=postgresql://$POSTGRES_USER:$POSTGRES_PASSWORD@127.0.0.1:${port##*:}/$POSTGRES_USER"
  # In the background, so that a signal for this shell alone also stops the service, and before its database.
  "$@" &
  service_pid=$!
  trap 'kill "$service_pid" 2> /dev/null || true' INT TERM HUP
  wait "$service_pid" || status=$?
  if ((status > 128)); then # interrupted by the trap
    status=0
    wait "$service_pid" || status=$?
  fi
  return "$status"
}
