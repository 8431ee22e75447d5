#define _GNU_SOURCE
#include "cmounttest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

const int ct_direct = O_DIRECT;
const int ct_punch = FALLOC_FL_PUNCH_HOLE, ct_zero_range = FALLOC_FL_ZERO_RANGE, ct_keep_size = FALLOC_FL_KEEP_SIZE;
const int ct_collapse = FALLOC_FL_COLLAPSE_RANGE, ct_insert = FALLOC_FL_INSERT_RANGE, ct_unshare = FALLOC_FL_UNSHARE_RANGE;
const int ct_seek_data = SEEK_DATA, ct_seek_hole = SEEK_HOLE;

int ct_open(const char *path, int flags, unsigned mode) {
    int fd = open(path, flags | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

int ct_fallocate(int fd, int mode, off_t offset, off_t length) {
    return fallocate(fd, mode, offset, length) < 0 ? -errno : 0;
}

ssize_t ct_pwrite_dsync(int fd, const void *bytes, size_t count, off_t offset) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    ssize_t wrote = pwritev2(fd, &part, 1, offset, RWF_DSYNC);
    return wrote < 0 ? -errno : wrote;
}

int ct_unmount(const char *path, int lazily) { return umount2(path, lazily ? MNT_DETACH : 0) < 0 ? -errno : 0; }
