# What the scripts share: finding the project's folder, installing Debian packages, timing stages. Sourced, not run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

packages=(cmake ninja-build g++ libc6-dev zlib1g-dev libeigen3-dev libdnnl-dev ocl-icd-opencl-dev
  libonnx-dev libprotobuf-dev protobuf-compiler libcairo2-dev libpng-dev libjpeg62-turbo-dev
  nlohmann-json3-dev libcxxopts-dev doctest-dev)

# Prints the usage: the comment block at the top of the calling script.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

# Runs a command under a name and remembers how long it took.
stage_names=() stage_seconds=()
stage() {
  local name=$1 start=$EPOCHREALTIME status=0
  shift
  printf '== %s\n' "$name"
  "$@" || status=$?
  stage_names+=("$name")
  stage_seconds+=("$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')")
  return $status
}

print_stages() {
  local i
  printf '\n'
  for i in "${!stage_names[@]}"; do printf '%-24s %8s s\n' "${stage_names[i]}" "${stage_seconds[i]}"; done
}

# Installs the Debian packages that are missing. Without the right to, prints the line to run and stops (exit 2).
need_packages() {
  if ! command -v dpkg-query apt-get > /dev/null; then
    echo "This is no Debian system: nothing is installed. CMake will name what is missing." >&2
    return
  fi
  local package missing=() as_root=()
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    echo "All packages are there."
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
    if ! command -v sudo > /dev/null || { [ ! -t 0 ] && ! sudo -n true 2> /dev/null; }; then
      printf 'Missing packages. As root, run this line, then this script again:\n\n' >&2
      printf '  apt-get update && apt-get install -y --no-install-recommends %s\n\n' "${missing[*]}" >&2
      exit 2
    fi
  fi
  echo "Installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}

# configure PRESET [CMake arguments]: build/PRESET is ready to build.
configure() {
  local preset=$1
  shift
  if command -v ccache > /dev/null; then set -- -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"; fi
  (cd "$root" && cmake --preset "$preset" "$@")
}
