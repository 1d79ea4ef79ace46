#!/usr/bin/env bash
# Says whether this machine has what the kit needs, with the command that repairs what is wrong.
#
#   scripts/doctor.sh            every check, a line each; a warning leaves the exit code at 0
#   scripts/doctor.sh CHECK...   these checks alone, by their names; silent where all is well
#
# Bash, not Python: whether there is a Python is one of the questions.
#
# shellcheck disable=SC2016 # what stands in single quotes is for whoever reads it
# shellcheck disable=SC2329 # checks are called by their names
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
shell_kubeconfig=${KUBECONFIG:-} shell_no_proxy=${no_proxy:-${NO_PROXY:-}}
. scripts/cluster.sh

system=$(uname -s)
case $(uname -m) in
  arm64 | aarch64) arch=arm64 tilt_arch=arm64 ;;
  *) arch=amd64 tilt_arch=x86_64 ;;
esac
[[ $system == Darwin ]] && tilt_system=mac || tilt_system=linux
all_checks=(checkout shell git python docker memory inotify ports kind kubectl kubernetes helm openssl curl kubeconfig tilt wrk)
failures=0 warnings=0

# --- what a check says ----------------------------------------------------------------

ok() { if $talkative; then printf 'ok    %s\n' "$1"; fi; }

warn() { # what is the case, command that repairs it
  warnings=$((warnings + 1))
  printf 'warn  %s\n        %s\n' "$1" "$2" >&3
}

fail() { # what is the case, command that repairs it
  failures=$((failures + 1))
  printf 'FAIL  %s\n        %s\n' "$1" "$2" >&3
}

on() { # command on macOS, command on Linux
  if [[ $system == Darwin ]]; then echo "$1"; else echo "$2"; fi
}

# Which Linux it is, by /etc/os-release: its ID and version, or those that it says it is like.
described=$(cat /etc/os-release 2> /dev/null) || described=''
os_release() { sed -n "s/^$1=//p" <<< "$described" | sed 's/"//g'; }
linux=" $(os_release ID) $(os_release ID_LIKE) " release=$(os_release VERSION_ID)

install_command() { # package; its name on Fedora and on Arch, where they have another one
  case $linux in
    *' debian '* | *' ubuntu '*) echo "sudo apt-get install --yes $1" ;;
    *' fedora '* | *' rhel '*) echo "sudo dnf install --assumeyes ${2:-$1}" ;;
    *' alpine '*) echo "sudo apk add ${3:-$1}" ;;
    *' arch '*) echo "sudo pacman -S --needed ${3:-$1}" ;;
    *) echo "sudo apt-get install --yes $1" ;;
  esac
}

# The one that the system has by itself; none where that is too old or has no venv that could be had.
python_command() {
  case $linux in
    *' ubuntu '*) at_least "$release" 24.04 && install_command python3-venv ;;
    *' debian '*) at_least "$release" 12 && install_command python3-venv ;;
    *' rhel '* | *' centos '*) install_command python3.11 python3.11 ;;
    *' fedora '* | *' alpine '* | *' arch '*) install_command python3 python3 "$([[ $linux == *' arch '* ]] && echo python || echo python3)" ;;
    *) return 1 ;;
  esac
}

# --- versions -------------------------------------------------------------------------

# The first number with a dot in what a tool prints: v3.22.0+g1d2 is 3.22.0.
version_in() { sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9.]*\).*/\1/p' <<< "$1" | head -n 1; }

at_least() { # version, the least that it may be
  local IFS=. found least part
  # shellcheck disable=SC2206 # split at the dots
  found=($1) least=($2)
  for ((part = 0; part < ${#least[@]}; part++)); do
    if ((${found[part]:-0} != least[part])); then
      ((${found[part]:-0} > least[part]))
      return
    fi
  done
}

# The four tools of the cluster are in mise.toml.
fetched() { # command that installs it without mise
  if type -P mise > /dev/null; then echo 'mise install && eval "$(mise activate bash)"'; else echo "$1"; fi
}

tool() { # severity when it is missing, name, minimum, command that prints its version, command that installs it
  local severity=$1 name=$2 minimum=$3 printed version
  if ! type -P "${4%% *}" > /dev/null; then # not a function of cluster.sh
    "$severity" "$name was not found; $minimum or later is needed. Install it:" "$5"
    return 1
  fi
  # shellcheck disable=SC2086 # a command and its arguments
  printed=$(command $4 2> /dev/null) || true
  version=$(version_in "$printed")
  if [[ -z $version ]]; then
    "$severity" "$name does not say its version: $(type -P "${4%% *}") cannot run, or is another program of that name. See:" "$4"
    return 1
  elif ! at_least "$version" "$minimum"; then
    "$severity" "$name is $version; $minimum or later is needed. Install a newer one:" "$5"
    return 1
  fi
  ok "$name $version"
}

# --- the checks -----------------------------------------------------------------------

# Files that a shell, make or a container reads, as another system may have written them.
check_checkout() {
  local files=() file
  while IFS= read -r file; do files+=("$file"); done < <(LC_ALL=C grep -lsI $'\r' Makefile Dockerfile .dockerignore ./*.env \
    .ci/run scripts/* platform/cluster/* services/*/local.env packages/*/*.txt services/*/*.txt || true)
  if ((${#files[@]})); then
    fail "Lines end as Windows ends them (CRLF), which no shell reads: ${files[*]:0:3}$( ((${#files[@]} > 3)) && echo ' ...' || true). \
Commit or stash what you changed, then:" 'git rm -r --cached --quiet . && git reset --hard'
    return
  fi
  for file in platform/helm/*/charts/library platform/helm/*/values.schema.json; do
    if [[ -f $file && ! -L $file && $(head -c 4 "$file") == ../* ]]; then files+=("$file"); fi
  done
  if ((${#files[@]})); then
    fail "Symbolic links are files here, as Git for Windows writes them, so that Helm does not find the charts' library: ${files[*]}. \
Write them as links:" "git config core.symlinks true && git checkout -- ${files[*]}"
    return
  fi
  if [[ $PWD == *:* ]]; then
    fail "The path of this folder has a colon, at which PATH and KUBECONFIG are cut. Move it:" "mv '$PWD' '${PWD//:/-}'"
  elif [[ $PWD == /mnt/[a-z]/* && -n ${WSL_DISTRO_NAME:-} ]]; then
    warn "This folder is on Windows' file system, which is slow here and has no modes. Clone it into Linux':" 'cd ~ && git clone ...'
  elif ! type -P git > /dev/null; then
    return 0 # check_git says so
  elif ! git rev-parse --git-dir > /dev/null 2>&1; then
    warn 'This folder is no clone. `make run`, `make test` and `make up` go without; `make lint` does not. Make it one:' \
      'git init && git add --all'
  elif file=$(git symbolic-ref --quiet --short refs/remotes/origin/HEAD 2> /dev/null) && [[ $file != origin/main ]]; then
    warn "The default branch is ${file#origin/}, and the workflows run on main. Rename it, there and here:" \
      "gh repo edit --default-branch main; git branch -m ${file#origin/} main   # or: .github/workflows"
  else
    ok 'The checkout is as it was committed, or is changed by hand alone'
  fi
}

# What is exported and would change what is installed, built or asked. Of most of it the kit makes itself free.
check_shell() {
  local proxy=${https_proxy:-${HTTPS_PROXY:-${http_proxy:-${HTTP_PROXY:-${all_proxy:-${ALL_PROXY:-}}}}}}
  if [[ -n $ISOLATED ]]; then ok "Exported here, and left out by every script of the kit:$ISOLATED"; fi
  if [[ -n $VERSIONS_FROM_OUTSIDE ]]; then ok "Taken from the environment, instead of what versions.env says:$VERSIONS_FROM_OUTSIDE"; fi
  if [[ $proxy == socks* ]]; then
    warn "The proxy is $proxy, and pip has no SOCKS of its own. Name one of HTTP where there is one, for what is installed:" \
      'make install HTTPS_PROXY=http://... ALL_PROXY='
  fi
  if [[ -n $proxy && $shell_no_proxy != *localhost* && $shell_no_proxy != '*' ]]; then
    warn "curl in this shell asks the proxy $proxy for localhost, too. The kit does not; for what you type yourself:" \
      'export NO_PROXY=127.0.0.1,localhost,.localhost,::1 no_proxy=127.0.0.1,localhost,.localhost,::1'
  fi
  if [[ -n ${DOCKER_DEFAULT_PLATFORM:-} ]]; then
    warn "Images are built for $DOCKER_DEFAULT_PLATFORM (DOCKER_DEFAULT_PLATFORM), and the cluster's nodes are $arch. For this machine:" \
      'unset DOCKER_DEFAULT_PLATFORM'
  fi
}

check_git() { tool fail Git 2.30 'git --version' "$(on 'brew install git' "$(install_command git)")" || true; }

check_python() {
  local found by_system everywhere='curl -LsSf https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv python install 3.11'
  if found=$(scripts/find-python.sh); then
    ok "Python $(version_in "$("$found" --version)") with venv ($found)"
  else
    by_system=$(on 'brew install python@3.13' "$(python_command || true)")
    fail 'A Python from 3.11 to 3.14 (with venv) was not found. Install one, or name it: make PYTHON=/path/to/python3.11 ...' \
      "${by_system:+$by_system   # or, on any system: }$everywhere"
  fi
}

check_docker() {
  local said
  said=$(docker --version 2> /dev/null) || said=''
  if [[ $said == *[Pp]odman* || $said == *nerdctl* ]]; then
    fail "\`docker\` is ${said%% version*} here ($(type -P docker)). The image can be built by it, and \`make run\` and \`make test\` go without; the cluster needs Docker itself:" \
      'https://docs.docker.com/engine/install/'
    return
  fi
  tool fail Docker 20.10 'docker --version' "$(on 'brew install --cask docker' \
    "$(install_command docker.io moby-engine docker) && sudo usermod -aG docker $(id -un)")" || return 0
  if said=$(docker version --format '{{.Server.Version}}' 2>&1); then
    if at_least "$(version_in "$said")" 20.10; then
      ok "Docker's daemon answers (version $said)"
      docker_is_here
    else
      fail "Docker's daemon is $said; 20.10 or later is needed. Install a newer one:" \
        "$(on 'brew upgrade --cask docker' "$(install_command docker.io moby-engine docker)")"
    fi
  elif [[ -n ${DOCKER_HOST:-}${DOCKER_CONTEXT:-} ]]; then
    fail "No Docker answers at ${DOCKER_HOST:-the context $DOCKER_CONTEXT}, which this shell exports. Start it, or take the default:" \
      'unset DOCKER_HOST DOCKER_CONTEXT && make doctor'
  elif [[ $said == *'permission denied'* ]]; then
    fail "Docker does not let $(id -un) in. Join its group, then open a new terminal:" "sudo usermod -aG docker $(id -un)"
  elif [[ $system == Darwin ]]; then
    fail "Docker's daemon does not answer. Start it:" "$(type -P colima > /dev/null && echo 'colima start --cpu 4 --memory 6' || echo 'open -a Docker')"
  else
    fail "Docker's daemon does not answer. Start it:" 'sudo systemctl start docker'
  fi
}

# What answers may be elsewhere, or be allowed less than kind asks for (https://kind.sigs.k8s.io/docs/user/rootless/).
docker_is_here() {
  local host=${DOCKER_HOST:-} security
  if [[ -z $host ]]; then host=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2> /dev/null) || host=''; fi
  case $host in
    tcp://127.0.0.1* | tcp://localhost* | tcp://\[::1\]*) ;;
    tcp://* | ssh://*)
      warn "Docker is on another machine ($host): what a cluster there publishes is not at 127.0.0.1. For one of this machine:" \
        'unset DOCKER_HOST DOCKER_CONTEXT; docker context use default'
      ;;
  esac
  security=$(docker info --format '{{.DockerRootDir}} {{.SecurityOptions}} cgroup-v{{.CgroupVersion}} cpu-{{.CPUShares}}' 2> /dev/null) || return 0
  if [[ $security == /var/snap/* ]]; then
    warn 'Docker is a snap, which sees nothing outside your home, /tmp neither. What is saved must be where both see it:' \
      'mkdir -p ~/tmp && export TMPDIR=~/tmp   # or: https://docs.docker.com/engine/install/'
  fi
  if [[ $security == *name=rootless* && $security != *'cgroup-v2 cpu-true'* ]]; then
    warn 'Docker is rootless and may not limit CPU, without which kind makes no cluster. Let it, then log in again:' \
      "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=yes\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload"
  fi
}

daemon_answers() { docker version > /dev/null 2>&1; }

# The three nodes, with the release and its add-ons in them, take 2.5 GiB at rest.
check_memory() {
  local bytes gib
  daemon_answers || return 0
  bytes=$(docker info --format '{{.MemTotal}}' 2> /dev/null) || return 0 # Podman has no such field
  [[ $bytes =~ ^[0-9]+$ ]] || return 0
  gib=$(LC_ALL=C awk "BEGIN { printf \"%.1f\", $bytes / 1024 ^ 3 }")
  if ((bytes < 4 * 1024 ** 3 - 256 * 1024 ** 2)); then # a machine of 4 GiB shows a little less
    warn "Docker has $gib GiB of memory; the local cluster wants 4. Give it more, or test without a cluster:" \
      "$(on "$(type -P colima > /dev/null && echo 'colima stop && colima start --cpu 4 --memory 6' || echo 'open -a Docker   # Settings, Resources, Memory')" 'make test')"
  else
    ok "Docker has $gib GiB of memory"
  fi
}

# What kind asks for (https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files). macOS has
# none of it: Docker's virtual machine brings its own.
check_inotify() {
  local name found wanted short=()
  [[ $system == Linux ]] || return 0
  for name in max_user_watches:524288 max_user_instances:512; do
    wanted=${name#*:} name=${name%:*}
    found=$(cat "/proc/sys/fs/inotify/$name" 2> /dev/null) || continue # not every kernel has it
    if ((found < wanted)); then short+=("fs.inotify.$name=$wanted"); fi
  done
  if ((${#short[@]})); then
    warn "The kernel watches few files (inotify); nodes or Tilt may say 'too many open files'. Raise it:" \
      "printf '%s\\n' ${short[*]} | sudo tee /etc/sysctl.d/99-kind.conf && sudo sysctl --system"
  else
    ok 'The kernel watches enough files (inotify)'
  fi
}

# Those of a cluster or a registry that is there are its own.
check_ports() {
  local name port ports=() free=() taken=() instead=()
  if ! docker container inspect "$CLUSTER-control-plane" > /dev/null 2>&1; then
    ports=(HTTP_PORT:8080 HTTPS_PORT:8443)
  fi
  if [[ ${REGISTRY:-} == 1 ]] && ! has_registry; then ports+=(REGISTRY_PORT:5001); fi
  if ((${#ports[@]} == 0)); then
    ok "Ports: the cluster $CLUSTER has its own"
    return
  fi
  for name in "${ports[@]}"; do
    port=${name#*:} name=${name%:*}
    port=${!name:-$port}
    if is_taken "$port"; then taken+=("$port") instead+=("$name=$(next_free "$port")"); else free+=("$port"); fi
  done
  if ((${#taken[@]})); then
    fail "Port ${taken[*]} of 127.0.0.1 is taken (lsof -nP -iTCP:${taken[0]} -sTCP:LISTEN names by what). Take another:" \
      "make up ${REGISTRY:+REGISTRY=$REGISTRY }${instead[*]}"
  else
    ok "Ports of 127.0.0.1 are free (${free[*]})"
  fi
}

check_kind() {
  tool fail kind 0.32 'kind --version' "$(fetched "$(on 'brew install kind' \
    "curl -fsSLo kind https://kind.sigs.k8s.io/dl/$KIND_VERSION/kind-linux-$arch && sudo install kind /usr/local/bin/")")" || true
}

# As YAML: before 1.28 the words were others, and Kustomize's version stood among them.
check_kubectl() {
  tool fail kubectl 1.26 'kubectl version --client --output yaml' "$(fetched "$(on 'brew install kubectl' \
    "curl -fsSLO https://dl.k8s.io/release/$(node_version)/bin/linux/$arch/kubectl && sudo install kubectl /usr/local/bin/")")" || true
}

node_version() { # the tag of kindest/node:v1.36.1@sha256:...
  local tag=${KIND_NODE_IMAGE%@*}
  echo "${tag##*:}"
}

server_version() {
  command kubectl --context "$CONTEXT" version --output yaml 2> /dev/null | sed -n '/^serverVersion:/,$s/^ *gitVersion: //p'
}

# The cluster's version where there is one, else that of the image it would be made of.
check_kubernetes() {
  local version
  if [[ -f $KUBECONFIG ]] && version=$(server_version) && [[ -n $version ]]; then
    if at_least "$(version_in "$version")" 1.26; then
      ok "Kubernetes $version runs in $CLUSTER"
    else
      fail "The cluster $CLUSTER has Kubernetes $version; 1.26 or later is needed. Make it again, without the data in it:" 'make down up'
    fi
  elif at_least "$(version_in "$(node_version)")" 1.26; then
    ok "Kubernetes $(node_version) is what \`make up\` makes a cluster of"
  else
    fail "KIND_NODE_IMAGE is $KIND_NODE_IMAGE; Kubernetes 1.26 or later is needed. Take the one of versions.env:" 'unset KIND_NODE_IMAGE'
  fi
}

check_helm() {
  tool fail Helm 3.12 'helm version --short' "$(fetched "$(on 'brew install helm' \
    "curl -fsSL https://get.helm.sh/helm-$HELM_VERSION-linux-$arch.tar.gz | sudo tar xz -C /usr/local/bin --strip-components 1 linux-$arch/helm")")" || true
}

check_openssl() {
  tool fail OpenSSL 1.1 'openssl version' "$(on 'brew install openssl' "$(install_command openssl)")" || true
}

check_curl() { tool fail curl 7.60 'curl --version' "$(on 'brew install curl' "$(install_command curl)")" || true; }

# The kit names its own on every call. What this says is for whoever types kubectl or tilt.
check_kubeconfig() {
  local own=$KUBECONFIG context
  type -P kubectl > /dev/null || return 0 # check_kubectl says so
  if [[ -f $own ]] && ! command kubectl config get-contexts "$CONTEXT" > /dev/null 2>&1; then
    warn ".kube/config has no context $CONTEXT. Write it again:" 'make up'
  elif [[ $shell_kubeconfig == "$own" ]]; then
    ok "kubectl in this shell uses .kube/config, the kit's own"
  elif [[ -n $shell_kubeconfig && $shell_kubeconfig != *:* && ! -f $shell_kubeconfig ]]; then
    warn "KUBECONFIG of this shell names a file that is not there: $shell_kubeconfig. For the kit's own cluster:" \
      'export KUBECONFIG=$PWD/.kube/config'
  else
    if context=$(KUBECONFIG=$shell_kubeconfig command kubectl config current-context 2> /dev/null); then
      ok "kubectl in this shell uses the context $context, which the kit never touches (its own: export KUBECONFIG=\$PWD/.kube/config)"
    else
      ok 'kubectl in this shell has no cluster (the kit has its own: export KUBECONFIG=$PWD/.kube/config)'
    fi
  fi
}

check_tilt() {
  tool "$optional" "${for_tilt}Tilt" 0.37.3 'tilt version' "$(fetched "$(on 'brew install tilt' \
    "curl -fsSL https://github.com/tilt-dev/tilt/releases/download/$TILT_VERSION/tilt.${TILT_VERSION#v}.$tilt_system.$tilt_arch.tar.gz | sudo tar xz -C /usr/local/bin tilt")")" || true
}

# wrk says its version with its usage, and an exit code of 1.
check_wrk() {
  tool "$optional" "${for_wrk}wrk" 4.0 'wrk -v' "$(on 'brew install wrk' "$(install_command wrk)")" || true
}

# --- which of them --------------------------------------------------------------------

exec 3>&1
talkative=true optional=warn for_tilt='For `make dev`: ' for_wrk='For `make e2e`, `make load`: '
checks=("${all_checks[@]}")
if (($#)); then
  # Called for one of these tools, it is not optional; and what is said is the reason for stopping.
  exec 3>&2
  talkative=false optional=fail for_tilt='' for_wrk=''
  checks=("$@")
fi
for check in "${checks[@]}"; do
  case " ${all_checks[*]} " in
    *" $check "*) "check_$check" ;;
    *) echo "There is no check named $check. The checks are: ${all_checks[*]}" >&2 && exit 2 ;;
  esac
done
if $talkative; then
  printf '\n%d failed, %d warnings. ' "$failures" "$warnings"
  if ((failures)); then echo 'Run the commands above, then again: make doctor'; else echo 'Next: make up (or, with Python alone: make run)'; fi
elif ((failures)); then
  echo 'Then run the same command again. All checks: make doctor' >&2
fi
exit $((failures > 0))
