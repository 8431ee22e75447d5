#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <unistd.h>

const int cl_o_direct = O_DIRECT;
const int cl_o_tmpfile = O_TMPFILE;

#define RESULT(call)                                                                               \
    do {                                                                                           \
        __typeof__(call) value = (call);                                                           \
        return value < 0 ? -errno : value;                                                         \
    } while (0)

#define RESULT_RETRIED(type, call)                                                                 \
    do {                                                                                           \
        type value;                                                                                \
        do {                                                                                       \
            value = (call);                                                                        \
        } while (value < 0 && errno == EINTR);                                                     \
        return value < 0 ? -errno : value;                                                         \
    } while (0)

int cl_openat(int directory, const char *name, int flags, unsigned mode) {
    RESULT_RETRIED(int, openat(directory, name, flags, mode));
}

int cl_punch(int fd, off_t offset, off_t length) {
    RESULT_RETRIED(int, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
}

int cl_allocate(int fd, off_t offset, off_t length, int keep_size) {
    RESULT_RETRIED(int, fallocate(fd, keep_size ? FALLOC_FL_KEEP_SIZE : 0, offset, length));
}

ssize_t cl_pread(int fd, void *bytes, size_t count, off_t offset) {
    RESULT_RETRIED(ssize_t, pread(fd, bytes, count, offset));
}

ssize_t cl_pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    RESULT_RETRIED(ssize_t, pwrite(fd, bytes, count, offset));
}

ssize_t cl_preadv(int fd, const struct iovec *parts, int count, off_t offset) {
    RESULT_RETRIED(ssize_t, preadv(fd, parts, count, offset));
}

ssize_t cl_pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    RESULT_RETRIED(ssize_t, pwritev(fd, parts, count, offset));
}

off_t cl_seek_data(int fd, off_t offset) { RESULT(lseek(fd, offset, SEEK_DATA)); }
off_t cl_seek_hole(int fd, off_t offset) { RESULT(lseek(fd, offset, SEEK_HOLE)); }

/* A failed fsync is never repeated by this project, so EINTR is not retried here either. */
int cl_fsync(int fd) { RESULT(fsync(fd)); }
int cl_fdatasync(int fd) { RESULT(fdatasync(fd)); }
int cl_syncfs(int fd) { RESULT(syncfs(fd)); }

int cl_start_writeback(int fd, off_t offset, off_t length) {
    RESULT(sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE));
}

int cl_drop_cache(int fd, off_t offset, off_t length) {
    return -posix_fadvise(fd, offset, length, POSIX_FADV_DONTNEED);
}

int cl_lock_exclusive(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    RESULT(fcntl(fd, F_OFD_SETLK, &lock));
}

int cl_space(int fd, uint64_t *available, uint64_t *total, int64_t *type) {
    struct statfs info;
    if (fstatfs(fd, &info) < 0) return -errno;
    *available = (uint64_t)info.f_bavail * (uint64_t)info.f_bsize;
    *total = (uint64_t)info.f_blocks * (uint64_t)info.f_bsize;
    *type = (int64_t)info.f_type;
    return 0;
}

int cl_random(void *bytes, size_t count) {
    unsigned char *cursor = bytes;
    while (count > 0) {
        ssize_t got = getrandom(cursor, count, 0);
        if (got < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        cursor += got;
        count -= (size_t)got;
    }
    return 0;
}

int cl_name_thread(const char *name) { return -pthread_setname_np(pthread_self(), name); }

int cl_error_text(int code, char *text, size_t count) {
    const char *found = strerror_r(code, text, count);
    if (found != text) {
        strncpy(text, found, count);
        text[count - 1] = 0;
    }
    return 0;
}
