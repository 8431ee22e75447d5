/* The Linux calls and constants that the Glibc module does not show to Swift, one plain function each.
   Every function returns the call's value, or -errno. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "clprocess.h"

int cl_openat(int directory, const char *name, int flags, unsigned mode);
extern const int cl_o_direct;
extern const int cl_o_tmpfile;

/* fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE. */
int cl_punch(int fd, off_t offset, off_t length);
/* fallocate(2) with mode 0, or with FALLOC_FL_KEEP_SIZE. */
int cl_allocate(int fd, off_t offset, off_t length, int keep_size);

ssize_t cl_pread(int fd, void *bytes, size_t count, off_t offset);
ssize_t cl_pwrite(int fd, const void *bytes, size_t count, off_t offset);
ssize_t cl_preadv(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t cl_pwritev(int fd, const struct iovec *parts, int count, off_t offset);

/* lseek(2) with SEEK_DATA and SEEK_HOLE; -ENXIO past the last one. */
off_t cl_seek_data(int fd, off_t offset);
off_t cl_seek_hole(int fd, off_t offset);

int cl_fsync(int fd);
int cl_fdatasync(int fd);
int cl_syncfs(int fd);
/* sync_file_range(2) with SYNC_FILE_RANGE_WRITE: starts write-back, promises nothing. */
int cl_start_writeback(int fd, off_t offset, off_t length);
/* posix_fadvise(2) with POSIX_FADV_DONTNEED. */
int cl_drop_cache(int fd, off_t offset, off_t length);

/* A write lock of the open file description (F_OFD_SETLK) over the whole file; -EAGAIN when another holds it. */
int cl_lock_exclusive(int fd);

/* statfs(2) of the file system that holds fd. */
int cl_space(int fd, uint64_t *available, uint64_t *total, int64_t *type);

int cl_random(void *bytes, size_t count);
int cl_name_thread(const char *name);

/* strerror_r(3) as POSIX has it. */
int cl_error_text(int code, char *text, size_t count);
