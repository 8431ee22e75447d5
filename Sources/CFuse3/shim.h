#pragma once
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

/* A second descriptor of the connection behind fd, with a queue of its own for the requests that are read from it:
   open(2) of /dev/fuse and ioctl(2) with FUSE_DEV_IOC_CLONE. The descriptor, or -errno. */
static inline int rs_fuse_clone(int fd) {
    int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (clone < 0) return -errno;
    uint32_t source = (uint32_t)fd;
    if (ioctl(clone, FUSE_DEV_IOC_CLONE, &source) < 0) {
        int code = errno;
        close(clone);
        return -code;
    }
    return clone;
}

/* The signal that takes a worker out of a blocking read. A signal of the real-time range, so that it meets no other
   use; it is sent to single threads alone. */
static inline int rs_fuse_wake_signal(void) { return SIGRTMIN + 5; }

static inline void rs_fuse_woken(int number) { (void)number; }

/* Gives the wake signal a handler that does nothing, without SA_RESTART: read(2) then fails with EINTR. */
static inline int rs_fuse_install_wake_handler(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = rs_fuse_woken;
    return sigaction(rs_fuse_wake_signal(), &action, NULL) < 0 ? -errno : 0;
}

/* Blocks every signal but the wake signal in the calling thread: the others are for the thread that waits for them. */
static inline void rs_fuse_block_signals(void) {
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, rs_fuse_wake_signal());
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

/* umount2(2) that follows no symbolic link. 0, or -errno. */
static inline int rs_fuse_unmount(const char *path, int lazily) {
    return umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}
