# Shared by the scripts in this folder; sourced, never run. Bash 5.
#
#   as_root COMMAND...    runs it as root, through sudo when needed
#   install_missing       installs, by apt-get, the Debian packages that are not there, and only those
#   make_scratch          a private folder on a real disk as TMPDIR, removed on exit with everything that hangs on it

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E "$@"; fi
}

# Whether as_root can work at all. sudo may ask for a password when there is a terminal to ask on.
can_be_root() {
    [ "$(id -u)" = 0 ] && return 0
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }
}

# What builds and tests need: `package:probe`, where the probe is a command or a file that the package brings.
needed_packages=(
    libfuse3-dev:/usr/include/fuse3/fuse_lowlevel.h
    libxxhash-dev:/usr/include/xxhash.h
    pkg-config:pkg-config
    fuse3:fusermount3
    util-linux:losetup
    e2fsprogs:mkfs.ext4
    xfsprogs:mkfs.xfs
    fio:fio
    qemu-utils:qemu-img
    strace:strace
    jq:jq
    python3:python3
)

install_missing() {
    # mkfs and losetup live where an ordinary user's PATH may not look.
    PATH=$PATH:/usr/sbin:/sbin
    local entry package probe missing=()
    for entry in "${needed_packages[@]}"; do
        package=${entry%%:*} probe=${entry#*:}
        case $probe in
        /*) [ -e "$probe" ] || missing+=("$package") ;;
        *) command -v "$probe" >/dev/null || missing+=("$package") ;;
        esac
    done
    if [ ${#missing[@]} -gt 0 ]; then
        command -v apt-get >/dev/null ||
            die "missing: ${missing[*]} (names as in Debian 12). There is no apt-get here; install them and run this again."
        can_be_root ||
            die "missing: ${missing[*]}. Run as root, or with sudo, or first: apt-get install ${missing[*]}"
        say "Installing: ${missing[*]}"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null ||
            say "apt-get update failed; trying with the lists that are there"
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null ||
            die "apt-get could not install: ${missing[*]}"
    fi
    command -v swift >/dev/null || die "swift is not on the PATH. Swift 6.2 or newer is needed: https://www.swift.org/install/linux/"
}

# Mount points below $1, innermost first: `type path`.
mounts_below() {
    awk -v below="$1/" '{
        path = $5
        while (match(path, /\\[0-7][0-7][0-7]/)) {
            code = substr(path, RSTART + 1, 3)
            value = substr(code, 1, 1) * 64 + substr(code, 2, 1) * 8 + substr(code, 3, 1)
            path = substr(path, 1, RSTART - 1) sprintf("%c", value) substr(path, RSTART + 4)
        }
        type = $0; sub(/^.* - /, "", type); sub(/ .*/, "", type)
        if (index(path, below) == 1) print type, path
    }' /proc/self/mountinfo | tac
}

# Undoes what tests and demo may leave below $1 after a failure: mounts, loop devices, daemons, files.
clean_below() {
    local folder=$1 type path device backing pidfile pid
    while read -r type path; do
        case $type in fuse*) ;; *) as_root umount -l "$path" 2>/dev/null ;; esac
    done < <(mounts_below "$folder")
    while read -r device backing; do
        case $backing in "$folder"/*) as_root losetup -d "$device" 2>/dev/null ;; esac
    done < <(losetup -l -n -O NAME,BACK-FILE 2>/dev/null)
    while read -r type path; do
        as_root umount -l "$path" 2>/dev/null
    done < <(mounts_below "$folder")
    while read -r pidfile; do
        pid=$(cat "$pidfile" 2>/dev/null)
        [[ $pid =~ ^[0-9]+$ ]] || continue
        # Only a daemon of ours: the number may belong to another process by now.
        case $(as_root readlink "/proc/$pid/exe" 2>/dev/null) in
        */replica-tool | */"replica-tool (deleted)") as_root kill -9 "$pid" 2>/dev/null ;;
        esac
    done < <(find "$folder" -xdev -name '*.pid' 2>/dev/null)
    rm -rf --one-file-system "$folder" 2>/dev/null || as_root rm -rf --one-file-system "$folder"
}

make_scratch() {
    # Not /tmp, which may be memory: the store's replicas want a disk's file system.
    scratch=$(mktemp -d -p "${TMPDIR:-/var/tmp}") || die "no temporary folder"
    # A test becomes another user, who must be able to pass through to a folder that he is given.
    chmod 711 "$scratch"
    trap 'code=$?; trap - EXIT; clean_below "$scratch"; exit $code' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    export TMPDIR=$scratch
}
