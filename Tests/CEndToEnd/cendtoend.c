#define _GNU_SOURCE
#include "cendtoend.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

const int ce_o_direct = O_DIRECT;
const int ce_rwf_dsync = RWF_DSYNC;
const int ce_keep_size = FALLOC_FL_KEEP_SIZE;
const int ce_punch_hole = FALLOC_FL_PUNCH_HOLE;
const int ce_zero_range = FALLOC_FL_ZERO_RANGE;
const int ce_collapse_range = FALLOC_FL_COLLAPSE_RANGE;
const int ce_insert_range = FALLOC_FL_INSERT_RANGE;

int ce_fallocate(int fd, int mode, off_t offset, off_t length) {
    return fallocate(fd, mode, offset, length) == 0 ? 0 : -errno;
}

ssize_t ce_pwrite(int fd, const void *bytes, size_t count, off_t offset, int flags) {
    struct iovec part = {(void *)bytes, count};
    ssize_t wrote = pwritev2(fd, &part, 1, offset, flags);
    return wrote < 0 ? -errno : wrote;
}

off_t ce_seek(int fd, off_t offset, int hole) {
    off_t found = lseek(fd, offset, hole ? SEEK_HOLE : SEEK_DATA);
    return found < 0 ? -errno : found;
}

int ce_wait_gone(pid_t pid, int milliseconds) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return errno == ESRCH ? 1 : -errno;
    struct pollfd event = {fd, POLLIN, 0};
    int code;
    do code = poll(&event, 1, milliseconds);
    while (code < 0 && errno == EINTR);
    int saved = errno;
    close(fd);
    return code < 0 ? -saved : code > 0;
}

int ce_spawn(pid_t *pid, char *const arguments[], char *const environment[], const char *folder, int out, int err) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, err, 2);
    if (folder) posix_spawn_file_actions_addchdir_np(&actions, folder);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    int code = posix_spawnp(pid, arguments[0], &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -code;
}

int ce_wait(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}
