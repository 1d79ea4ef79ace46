# One Dockerfile for all services under services/.
#
#   docker build -t task-api:latest .
#   docker run -d --name task-api -p 8000:8000 --read-only --tmpfs /tmp task-api:latest
#
# With --target dev: live-updated code, for Tilt. Works with Docker 20.10 and later, with or without BuildKit.

# The base image can be pinned by digest: --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim

# --- builder: packages and code, compiled ---------------------------------------------

FROM ${PYTHON_IMAGE} AS builder

# Without its own pip: the image's installs into it, and does not leave this stage.
RUN python -m venv --without-pip /opt/venv

ARG SERVICE=task-api
# The lock first, on its own: code changes do not invalidate this layer.
COPY services/${SERVICE}/requirements.txt /build/requirements.txt
# Compiled with unchecked hashes: file timestamps do not matter, so the same code gives the same bytes.
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
      --require-hashes --only-binary :all: --requirement /build/requirements.txt \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

COPY packages/chassis/src /app/src
COPY services/${SERVICE}/src /app/src
# `app serve` runs the service's own package, task_api of task-api, whatever other packages are present. File modes do not
# depend on the checkout (a umask of 077, a file system without modes).
RUN python -c "import os; print(os.environ['SERVICE'].replace('-', '_'))" > /build/package \
 && test -f "/app/src/$(cat /build/package)/__main__.py" \
 && printf '#!/opt/venv/bin/python\nimport runpy\n\nrunpy.run_module("%s", run_name="__main__", alter_sys=True)\n' \
      "$(cat /build/package)" > /opt/venv/bin/app \
 && python -m compileall -q --invalidation-mode unchecked-hash /app/src \
 && find /app/src -type d -exec chmod 555 {} + \
 && find /app/src -type f -exec chmod 444 {} + \
 && chmod a=rx /opt/venv/bin/app

# --- dev: the same packages, and live-updated code ------------------------------------

FROM builder AS dev

# Tilt unpacks changed files as the container's user. Bytecode is validated by the source's hash: a timestamp would miss a
# second save within the same second, and unchanged files are not recompiled on every change.
RUN chmod -R u+w /app \
 && python -m compileall -q -f --invalidation-mode checked-hash /app/src \
 && chown -R 1000:1000 /app

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
RUN app --help > /dev/null && find /tmp -mindepth 1 -delete
ENV PYTHONDONTWRITEBYTECODE=1

# It watches /app/src and forks a process that imports only the service and the chassis.
COPY scripts/dev_server.py /build/dev_server.py

USER 1000:1000
EXPOSE 8000
CMD ["sh", "-c", "exec python /build/dev_server.py \"$(cat /build/package)\" :: 8000"]

# --- runtime --------------------------------------------------------------------------

FROM ${PYTHON_IMAGE}

# Removes package installers and modules not needed at run time, wherever this Python keeps them: scanners report them, and
# attackers use them. Also setuid and setgid programs (su, mount, passwd), which plain `docker run` does not prevent. The user
# has no line in /etc/shadow, where useradd would write the date.
RUN python -c "import pathlib, shutil, site, sysconfig; \
folders = {pathlib.Path(p) for p in [*site.getsitepackages(), sysconfig.get_path('purelib'), sysconfig.get_path('stdlib'), sysconfig.get_path('scripts'), '/usr/bin', '/usr/local/bin']}; \
names = ['pip', 'pip-*', 'pip[0-9]*', 'setuptools', 'setuptools-*', 'wheel', 'wheel-*', 'pkg_resources', '_distutils_hack', 'distutils-precedence.pth', 'ensurepip', 'idlelib', 'lib2to3', 'turtledemo', 'idle*', '2to3*', 'pydoc*']; \
found = [f for folder in folders for name in names for f in folder.glob(name) if f.name != 'pydoc.py']; \
[shutil.rmtree(f) if f.is_dir() and not f.is_symlink() else f.unlink(missing_ok=True) for f in found]" \
 && ! python -c 'import pip' 2> /dev/null \
 && ! python -c 'import ensurepip' 2> /dev/null \
 && find / -xdev -perm /6000 -type f -delete \
 && echo 'appuser:x:1000:' >> /etc/group \
 && echo 'appuser:x:1000:1000::/tmp:/usr/sbin/nologin' >> /etc/passwd

COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /app /app

# HOME is the only writable directory when the root file system is read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp

# glibc's default value. Set, it is fixed; unset, glibc raises it with each large body and retains the memory: after 200
# bodies of 1 MiB, 20 concurrently, 25 MiB were retained, and 2 with this setting.
ENV MALLOC_TRIM_THRESHOLD_=131072

# The official image has no bytecode of the standard library, which every start in a read-only container would
# recompile: the modules that the service imports are compiled here, once.
RUN app --help > /dev/null && find /tmp -mindepth 1 -delete
ENV PYTHONDONTWRITEBYTECODE=1

# Numeric: Kubernetes can verify runAsNonRoot only for a numeric user.
USER 1000:1000
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["python", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/livez'); assert c.getresponse().status == 200"]
ENTRYPOINT ["app"]
CMD ["serve", "--default-host", "::"]

# Last, since it changes with every build: `revision` in /health. Builds get these arguments, and the additional labels of an
# image of a commit, from scripts/image-metadata.sh.
ARG PYTHON_IMAGE
ARG SERVICE=task-api
ARG REVISION=dev
LABEL org.opencontainers.image.title=${SERVICE} \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.base.name=${PYTHON_IMAGE} \
      org.opencontainers.image.licenses=Apache-2.0
ENV SERVICE_REVISION=${REVISION}
