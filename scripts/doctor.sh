#!/usr/bin/env bash
# Checks this machine for everything that the kit needs, and prints the command that fixes each problem.
#
#   scripts/doctor.sh            all checks, one line each; warnings do not change the exit code
#   scripts/doctor.sh CHECK...   only these checks, by name; silent if all pass
#
# Bash, not Python: Python is one of the things that it checks.
#
# shellcheck disable=SC2016 # single-quoted text is printed for users to copy
# shellcheck disable=SC2329 # checks are called by name
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

# --- results --------------------------------------------------------------------------

ok() { if $verbose; then printf 'ok    %s\n' "$1"; fi; }

warn() { # problem, command that fixes it
  warnings=$((warnings + 1))
  printf 'warn  %s\n        %s\n' "$1" "$2" >&3
}

fail() { # problem, command that fixes it
  failures=$((failures + 1))
  printf 'FAIL  %s\n        %s\n' "$1" "$2" >&3
}

on() { # command on macOS, command on Linux
  if [[ $system == Darwin ]]; then echo "$1"; else echo "$2"; fi
}

# The Linux distribution: ID, ID_LIKE and version from /etc/os-release.
os_release_file=$(cat /etc/os-release 2> /dev/null) || os_release_file=''
os_release() { sed -n "s/^$1=//p" <<< "$os_release_file" | sed 's/"//g'; }
linux=" $(os_release ID) $(os_release ID_LIKE) " release=$(os_release VERSION_ID)

install_command() { # package; its names on Fedora and on Arch, if different
  case $linux in
    *' debian '* | *' ubuntu '*) echo "sudo apt-get install --yes $1" ;;
    *' fedora '* | *' rhel '*) echo "sudo dnf install --assumeyes ${2:-$1}" ;;
    *' alpine '*) echo "sudo apk add ${3:-$1}" ;;
    *' arch '*) echo "sudo pacman -S --needed ${3:-$1}" ;;
    *) echo "sudo apt-get install --yes $1" ;;
  esac
}

# The system's own Python; fails if that is too old or has no installable venv.
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

# The first dotted number in a tool's output: v3.22.0+g1d2 is 3.22.0.
version_in() { sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9.]*\).*/\1/p' <<< "$1" | head -n 1; }

at_least() { # version, minimum
  local IFS=. actual required part
  # shellcheck disable=SC2206 # split at the dots
  actual=($1) required=($2)
  for ((part = 0; part < ${#required[@]}; part++)); do
    if ((${actual[part]:-0} != required[part])); then
      ((${actual[part]:-0} > required[part]))
      return
    fi
  done
}

# The four cluster tools are in mise.toml.
mise_or() { # command that installs it without mise
  if type -P mise > /dev/null; then echo 'mise install && eval "$(mise activate bash)"'; else echo "$1"; fi
}

tool() { # severity if missing, name, minimum, command that prints its version, command that installs it
  local severity=$1 name=$2 minimum=$3 output version
  if ! type -P "${4%% *}" > /dev/null; then # not a function of cluster.sh
    "$severity" "$name was not found; $minimum or later is required. Install it:" "$5"
    return 1
  fi
  # shellcheck disable=SC2086 # a command and its arguments
  output=$(command $4 2> /dev/null) || true
  version=$(version_in "$output")
  if [[ -z $version ]]; then
    "$severity" "$name prints no version: $(type -P "${4%% *}") fails to run, or is another program of the same name. See:" "$4"
    return 1
  elif ! at_least "$version" "$minimum"; then
    "$severity" "$name is $version; $minimum or later is required. Upgrade it:" "$5"
    return 1
  fi
  ok "$name $version"
}

# --- the checks -----------------------------------------------------------------------

# Files read by a shell, make or a container, possibly written by another operating system.
check_checkout() {
  local files=() file
  while IFS= read -r file; do files+=("$file"); done < <(LC_ALL=C grep -lsI $'\r' Makefile Dockerfile .dockerignore ./*.env \
    .ci/run scripts/* platform/cluster/* services/*/local.env packages/*/*.txt services/*/*.txt || true)
  if ((${#files[@]})); then
    fail "Files with Windows line endings (CRLF), which shells cannot read: ${files[*]:0:3}$( ((${#files[@]} > 3)) && echo ' ...' || true). \
Commit or stash your changes, then:" 'git rm -r --cached --quiet . && git reset --hard'
    return
  fi
  for file in platform/helm/*/charts/library platform/helm/*/values.schema.json; do
    if [[ -f $file && ! -L $file && $(head -c 4 "$file") == ../* ]]; then files+=("$file"); fi
  done
  if ((${#files[@]})); then
    fail "Symbolic links are plain files here, as Git for Windows writes them, so Helm cannot find the library chart: ${files[*]}. \
Restore the links:" "git config core.symlinks true && git checkout -- ${files[*]}"
    return
  fi
  if [[ $PWD == *:* ]]; then
    fail "The path of this folder contains a colon, which separates entries of PATH and KUBECONFIG. Move it:" "mv '$PWD' '${PWD//:/-}'"
  elif [[ $PWD == /mnt/[a-z]/* && -n ${WSL_DISTRO_NAME:-} ]]; then
    warn "This folder is on the Windows file system, which is slow here and has no file modes. Clone it into the Linux one:" 'cd ~ && git clone ...'
  elif ! type -P git > /dev/null; then
    return 0 # check_git reports it
  elif ! git rev-parse --git-dir > /dev/null 2>&1; then
    warn 'This folder is not a Git repository. `make run`, `make test` and `make up` work without; `make lint` does not. Create one:' \
      'git init && git add --all'
  elif file=$(git symbolic-ref --quiet --short refs/remotes/origin/HEAD 2> /dev/null) && [[ $file != origin/main ]]; then
    warn "The default branch is ${file#origin/}, but the workflows run on main. Rename it on the remote and here:" \
      "gh repo edit --default-branch main; git branch -m ${file#origin/} main   # or: .github/workflows"
  else
    ok 'The checkout has the expected line endings and links'
  fi
}

# Exported variables that would change what is installed, built or queried. The scripts unset most of them.
check_shell() {
  local proxy=${https_proxy:-${HTTPS_PROXY:-${http_proxy:-${HTTP_PROXY:-${all_proxy:-${ALL_PROXY:-}}}}}}
  if [[ -n $ISOLATED ]]; then ok "Exported here, and ignored by all scripts of the kit:$ISOLATED"; fi
  if [[ -n $VERSIONS_FROM_OUTSIDE ]]; then ok "Overridden by the environment, instead of versions.env:$VERSIONS_FROM_OUTSIDE"; fi
  if [[ $proxy == socks* ]]; then
    warn "The proxy is $proxy, and pip has no built-in SOCKS support. To install through an HTTP proxy, if there is one:" \
      'make install HTTPS_PROXY=http://... ALL_PROXY='
  fi
  if [[ -n $proxy && $shell_no_proxy != *localhost* && $shell_no_proxy != '*' ]]; then
    warn "curl in this shell uses the proxy $proxy for localhost, too. The kit does not; for your own commands:" \
      'export NO_PROXY=127.0.0.1,localhost,.localhost,::1 no_proxy=127.0.0.1,localhost,.localhost,::1'
  fi
  if [[ -n ${DOCKER_DEFAULT_PLATFORM:-} ]]; then
    warn "Images are built for $DOCKER_DEFAULT_PLATFORM (DOCKER_DEFAULT_PLATFORM), but the cluster's nodes are $arch. To build for this machine:" \
      'unset DOCKER_DEFAULT_PLATFORM'
  fi
}

check_git() { tool fail Git 2.30 'git --version' "$(on 'brew install git' "$(install_command git)")" || true; }

check_python() {
  local python from_system from_uv='curl -LsSf https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv python install 3.11'
  if python=$(scripts/find-python.sh); then
    ok "Python $(version_in "$("$python" --version)") with venv ($python)"
  else
    from_system=$(on 'brew install python@3.13' "$(python_command || true)")
    fail 'No Python 3.11 to 3.14 with venv was found. Install one, or set its path: make PYTHON=/path/to/python3.11 ...' \
      "${from_system:+$from_system   # or, on any system: }$from_uv"
  fi
}

check_docker() {
  local output
  output=$(docker --version 2> /dev/null) || output=''
  if [[ $output == *[Pp]odman* || $output == *nerdctl* ]]; then
    fail "\`docker\` is ${output%% version*} here ($(type -P docker)). It can build the image, and \`make run\` and \`make test\` work without it; the cluster requires Docker:" \
      'https://docs.docker.com/engine/install/'
    return
  fi
  tool fail Docker 20.10 'docker --version' "$(on 'brew install --cask docker' \
    "$(install_command docker.io moby-engine docker) && sudo usermod -aG docker $(id -un)")" || return 0
  if output=$(docker version --format '{{.Server.Version}}' 2>&1); then
    if at_least "$(version_in "$output")" 20.10; then
      ok "The Docker daemon is running (version $output)"
      check_docker_host
    else
      fail "The Docker daemon is $output; 20.10 or later is required. Upgrade it:" \
        "$(on 'brew upgrade --cask docker' "$(install_command docker.io moby-engine docker)")"
    fi
  elif [[ -n ${DOCKER_HOST:-}${DOCKER_CONTEXT:-} ]]; then
    fail "Docker is not responding at ${DOCKER_HOST:-the context $DOCKER_CONTEXT}, set in this shell. Start it, or use the default:" \
      'unset DOCKER_HOST DOCKER_CONTEXT && make doctor'
  elif [[ $output == *'permission denied'* ]]; then
    fail "Permission denied on the Docker socket for $(id -un). Join the docker group, then open a new terminal:" "sudo usermod -aG docker $(id -un)"
  elif [[ $system == Darwin ]]; then
    fail 'The Docker daemon is not running. Start it:' "$(type -P colima > /dev/null && echo 'colima start --cpu 4 --memory 6' || echo 'open -a Docker')"
  else
    fail 'The Docker daemon is not running. Start it:' 'sudo systemctl start docker'
  fi
}

# The daemon may be remote, or have fewer privileges than kind requires (https://kind.sigs.k8s.io/docs/user/rootless/).
check_docker_host() {
  local host=${DOCKER_HOST:-} security
  if [[ -z $host ]]; then host=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2> /dev/null) || host=''; fi
  case $host in
    tcp://127.0.0.1* | tcp://localhost* | tcp://\[::1\]*) ;;
    tcp://* | ssh://*)
      warn "Docker runs on another machine ($host): ports of a cluster there are not at 127.0.0.1. To use Docker on this machine:" \
        'unset DOCKER_HOST DOCKER_CONTEXT; docker context use default'
      ;;
  esac
  security=$(docker info --format '{{.DockerRootDir}} {{.SecurityOptions}} cgroup-v{{.CgroupVersion}} cpu-{{.CPUShares}}' 2> /dev/null) || return 0
  if [[ $security == /var/snap/* ]]; then
    warn 'Docker is a snap, which has no access outside of your home, not even to /tmp. Use a temporary folder that both can access:' \
      'mkdir -p ~/tmp && export TMPDIR=~/tmp   # or: https://docs.docker.com/engine/install/'
  fi
  if [[ $security == *name=rootless* && $security != *'cgroup-v2 cpu-true'* ]]; then
    warn 'Docker is rootless and cannot limit CPU, which kind requires. Delegate the controllers, then log in again:' \
      "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=yes\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload"
  fi
}

daemon_answers() { docker version > /dev/null 2>&1; }

# The three nodes with the release and its add-ons use 2.5 GiB at rest.
check_memory() {
  local bytes gib
  daemon_answers || return 0
  bytes=$(docker info --format '{{.MemTotal}}' 2> /dev/null) || return 0 # Podman has no such field
  [[ $bytes =~ ^[0-9]+$ ]] || return 0
  gib=$(LC_ALL=C awk "BEGIN { printf \"%.1f\", $bytes / 1024 ^ 3 }")
  if ((bytes < 4 * 1024 ** 3 - 256 * 1024 ** 2)); then # a machine of 4 GiB reports a little less
    warn "Docker has $gib GiB of memory; the local cluster needs 4. Raise the limit, or test without a cluster:" \
      "$(on "$(type -P colima > /dev/null && echo 'colima stop && colima start --cpu 4 --memory 6' || echo 'open -a Docker   # Settings, Resources, Memory')" 'make test')"
  else
    ok "Docker has $gib GiB of memory"
  fi
}

# kind's requirements (https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files). Not on
# macOS: Docker's virtual machine has its own limits.
check_inotify() {
  local name limit required low=()
  [[ $system == Linux ]] || return 0
  for name in max_user_watches:524288 max_user_instances:512; do
    required=${name#*:} name=${name%:*}
    limit=$(cat "/proc/sys/fs/inotify/$name" 2> /dev/null) || continue # not in every kernel
    if ((limit < required)); then low+=("fs.inotify.$name=$required"); fi
  done
  if ((${#low[@]})); then
    warn "The kernel's inotify limits are low; nodes or Tilt may fail with 'too many open files'. Raise them:" \
      "printf '%s\\n' ${low[*]} | sudo tee /etc/sysctl.d/99-kind.conf && sudo sysctl --system"
  else
    ok "The kernel's inotify limits are sufficient"
  fi
}

# An existing cluster or registry already holds its ports.
check_ports() {
  local name port ports=() free=() used=() alternatives=()
  if ! docker container inspect "$CLUSTER-control-plane" > /dev/null 2>&1; then
    ports=(HTTP_PORT:8080 HTTPS_PORT:8443)
  fi
  if [[ ${REGISTRY:-} == 1 ]] && ! has_registry; then ports+=(REGISTRY_PORT:5001); fi
  if ((${#ports[@]} == 0)); then
    ok "Ports: in use by the cluster $CLUSTER"
    return
  fi
  for name in "${ports[@]}"; do
    port=${name#*:} name=${name%:*}
    port=${!name:-$port}
    if is_taken "$port"; then used+=("$port") alternatives+=("$name=$(next_free "$port")"); else free+=("$port"); fi
  done
  if ((${#used[@]})); then
    fail "Port ${used[*]} of 127.0.0.1 is in use (by which process: lsof -nP -iTCP:${used[0]} -sTCP:LISTEN). Use another:" \
      "make up ${REGISTRY:+REGISTRY=$REGISTRY }${alternatives[*]}"
  else
    ok "Ports of 127.0.0.1 are free (${free[*]})"
  fi
}

check_kind() {
  tool fail kind 0.32 'kind --version' "$(mise_or "$(on 'brew install kind' \
    "curl -fsSLo kind https://kind.sigs.k8s.io/dl/$KIND_VERSION/kind-linux-$arch && sudo install kind /usr/local/bin/")")" || true
}

# As YAML: before 1.28 the text output differed and contained Kustomize's version.
check_kubectl() {
  tool fail kubectl 1.26 'kubectl version --client --output yaml' "$(mise_or "$(on 'brew install kubectl' \
    "curl -fsSLO https://dl.k8s.io/release/$(node_version)/bin/linux/$arch/kubectl && sudo install kubectl /usr/local/bin/")")" || true
}

node_version() { # the tag of kindest/node:v1.36.1@sha256:...
  local tag=${KIND_NODE_IMAGE%@*}
  echo "${tag##*:}"
}

server_version() {
  command kubectl --context "$CONTEXT" version --output yaml 2> /dev/null | sed -n '/^serverVersion:/,$s/^ *gitVersion: //p'
}

# The version of the existing cluster, or of the image for a new one.
check_kubernetes() {
  local version
  if [[ -f $KUBECONFIG ]] && version=$(server_version) && [[ -n $version ]]; then
    if at_least "$(version_in "$version")" 1.26; then
      ok "Kubernetes $version is running in $CLUSTER"
    else
      fail "The cluster $CLUSTER runs Kubernetes $version; 1.26 or later is required. Recreate it, without its data:" 'make down up'
    fi
  elif at_least "$(version_in "$(node_version)")" 1.26; then
    ok "Kubernetes $(node_version) is the version that \`make up\` installs"
  else
    fail "KIND_NODE_IMAGE is $KIND_NODE_IMAGE; Kubernetes 1.26 or later is required. Use the one in versions.env:" 'unset KIND_NODE_IMAGE'
  fi
}

check_helm() {
  tool fail Helm 3.12 'helm version --short' "$(mise_or "$(on 'brew install helm' \
    "curl -fsSL https://get.helm.sh/helm-$HELM_VERSION-linux-$arch.tar.gz | sudo tar xz -C /usr/local/bin --strip-components 1 linux-$arch/helm")")" || true
}

check_openssl() {
  tool fail OpenSSL 1.1 'openssl version' "$(on 'brew install openssl' "$(install_command openssl)")" || true
}

check_curl() { tool fail curl 7.60 'curl --version' "$(on 'brew install curl' "$(install_command curl)")" || true; }

# The kit passes its own kubeconfig on every call. This check is for users of kubectl and tilt.
check_kubeconfig() {
  local own=$KUBECONFIG context
  type -P kubectl > /dev/null || return 0 # check_kubectl reports it
  if [[ -f $own ]] && ! command kubectl config get-contexts "$CONTEXT" > /dev/null 2>&1; then
    warn ".kube/config has no context $CONTEXT. Recreate it:" 'make up'
  elif [[ $shell_kubeconfig == "$own" ]]; then
    ok "kubectl in this shell uses .kube/config, the kit's own"
  elif [[ -n $shell_kubeconfig && $shell_kubeconfig != *:* && ! -f $shell_kubeconfig ]]; then
    warn "KUBECONFIG in this shell points to a missing file: $shell_kubeconfig. To use the kit's cluster:" \
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
  tool "$optional" "${for_tilt}Tilt" 0.37.3 'tilt version' "$(mise_or "$(on 'brew install tilt' \
    "curl -fsSL https://github.com/tilt-dev/tilt/releases/download/$TILT_VERSION/tilt.${TILT_VERSION#v}.$tilt_system.$tilt_arch.tar.gz | sudo tar xz -C /usr/local/bin tilt")")" || true
}

# wrk prints its version with its usage, and exits with 1.
check_wrk() {
  tool "$optional" "${for_wrk}wrk" 4.0 'wrk -v' "$(on 'brew install wrk' "$(install_command wrk)")" || true
}

# --- selection ------------------------------------------------------------------------

exec 3>&1
verbose=true optional=warn for_tilt='For `make dev`: ' for_wrk='For `make e2e`, `make load`: '
checks=("${all_checks[@]}")
if (($#)); then
  # Called for a single tool, it is required; and the output is an error.
  exec 3>&2
  verbose=false optional=fail for_tilt='' for_wrk=''
  checks=("$@")
fi
for check in "${checks[@]}"; do
  case " ${all_checks[*]} " in
    *" $check "*) "check_$check" ;;
    *) echo "Unknown check $check. Choose from: ${all_checks[*]}" >&2 && exit 2 ;;
  esac
done
if $verbose; then
  printf '\n%d failed, %d warnings. ' "$failures" "$warnings"
  if ((failures)); then echo 'Run the commands above, then repeat: make doctor'; else echo 'Next: make up (or, with only Python: make run)'; fi
elif ((failures)); then
  echo 'Then run the same command again. All checks: make doctor' >&2
fi
exit $((failures > 0))
