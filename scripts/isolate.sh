# shellcheck shell=bash
# Removes exported functions and variables (from a profile, a hook or another project) that would change what is
# installed, built or tested here. Every script sources it, with the repository as working directory; the Makefile
# removes what bash reads before a script's first line. Access settings stay: proxies, indexes, certificates, Docker.
# ISOLATED lists what was removed, for `make doctor`.

ISOLATED=''
# Exported functions would override commands.
while read -r _ _ name; do
  if [[ -n $name ]]; then unset -f "$name" && ISOLATED+=" $name()"; fi
done <<< "$(declare -F)"
set +o noclobber +o noglob +o posix
shopt -u failglob nullglob nocaseglob nocasematch

# Variables of the shell and its tools: CDPATH makes `cd` print, BASH_ENV is sourced before each script. Git hooks set
# GIT_DIR and GIT_INDEX_FILE, which makes every git use the hook's repository. Python's load code from elsewhere,
# disable `assert`, keep `-m` from searching here or pytest from finding its plugins, or recompile all packages at each
# start.
for name in BASH_ENV CDPATH ENV GREP_COLOR GREP_OPTIONS POSIXLY_CORRECT TMOUT \
  GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_DIR GIT_INDEX_FILE GIT_NAMESPACE GIT_OBJECT_DIRECTORY \
  GIT_PREFIX GIT_WORK_TREE GIT_GLOB_PATHSPECS GIT_ICASE_PATHSPECS GIT_LITERAL_PATHSPECS GIT_NOGLOB_PATHSPECS \
  PYTHONDONTWRITEBYTECODE PYTHONEXECUTABLE PYTHONHOME PYTHONINSPECT PYTHONOPTIMIZE PYTHONPATH PYTHONPLATLIBDIR PYTHONSAFEPATH \
  PYTHONWARNINGS __PYVENV_LAUNCHER__ PYTEST_DISABLE_PLUGIN_AUTOLOAD PYTEST_PLUGINS VIRTUAL_ENV CONDA_PREFIX; do
  if [[ -n ${!name:-} ]]; then ISOLATED+=" $name"; fi
  unset "$name"
done
# Of pip's settings, those for sources and connections stay; of uv's, those for connections. The others would install to
# another place, other packages, fewer, or none; sources come from pip alone (scripts/uv.py).
for name in "${!PIP_@}" "${!UV_@}"; do
  case $name in
    PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_NO_INDEX | PIP_FIND_LINKS | PIP_TRUSTED_HOST | PIP_CERT | PIP_CLIENT_CERT) ;;
    PIP_PROXY | PIP_TIMEOUT | PIP_DEFAULT_TIMEOUT | PIP_RETRIES | PIP_KEYRING_PROVIDER) ;;
    PIP_CONFIG_FILE | PIP_CACHE_DIR | PIP_NO_CACHE_DIR | PIP_DISABLE_PIP_VERSION_CHECK) ;;
    UV_CACHE_DIR | UV_NO_CACHE | UV_CONCURRENT_DOWNLOADS | UV_CONCURRENT_INSTALLS | UV_THREADPOOL_SIZE) ;;
    UV_HTTP_TIMEOUT | UV_HTTP_CONNECT_TIMEOUT | UV_HTTP_RETRIES | UV_INSECURE_HOST | UV_KEYRING_PROVIDER | UV_SYSTEM_CERTS | UV_NATIVE_TLS) ;;
    *) ISOLATED+=" $name" && unset "$name" ;;
  esac
done
unset name

if [[ -z ${HOME:-} ]]; then # as under cron or `env -i`; tools keep their caches there
  unset HOME
  HOME=~
  export HOME
fi
if [[ -n ${TMPDIR:-} && ! (-d $TMPDIR && -w $TMPDIR) ]]; then
  ISOLATED+=" TMPDIR=$TMPDIR"
  unset TMPDIR
fi

# Local servers must not be reached through a proxy.
if [[ -n ${http_proxy:-}${https_proxy:-}${all_proxy:-}${HTTP_PROXY:-}${HTTPS_PROXY:-}${ALL_PROXY:-} ]]; then
  no_proxy=${no_proxy:-${NO_PROXY:-}}
  case ,$no_proxy, in
    *,127.0.0.1,localhost,.localhost,::1,*) ;;
    *) no_proxy=${no_proxy:+$no_proxy,}127.0.0.1,localhost,.localhost,::1 ;;
  esac
  export no_proxy NO_PROXY=$no_proxy
fi
