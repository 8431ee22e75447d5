/* System calls that the tests of the mount make and that Glibc does not show to Swift. -errno for a failure. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

extern const int ct_direct;
extern const int ct_punch, ct_zero_range, ct_keep_size, ct_collapse, ct_insert, ct_unshare;
extern const int ct_seek_data, ct_seek_hole;

int ct_open(const char *path, int flags, unsigned mode);
int ct_fallocate(int fd, int mode, off_t offset, off_t length);
/* pwritev2(2) with RWF_DSYNC. */
ssize_t ct_pwrite_dsync(int fd, const void *bytes, size_t count, off_t offset);
/* umount2(2) with or without MNT_DETACH. */
int ct_unmount(const char *path, int lazily);
