/* Calls of Linux that the end-to-end suites make as a user's program would, and that the Glibc module does not show to
   Swift. Each returns the call's value, or -errno. */
#pragma once
#include <stddef.h>
#include <sys/types.h>

extern const int ce_o_direct;
extern const int ce_rwf_dsync;

extern const int ce_keep_size;
extern const int ce_punch_hole;
extern const int ce_zero_range;
extern const int ce_collapse_range;
extern const int ce_insert_range;

int ce_fallocate(int fd, int mode, off_t offset, off_t length);
/* pwritev2(2) of one part. */
ssize_t ce_pwrite(int fd, const void *bytes, size_t count, off_t offset, int flags);
/* lseek(2) with SEEK_DATA, or SEEK_HOLE. */
off_t ce_seek(int fd, off_t offset, int hole);
/* Waits until the process has ended, for at most `milliseconds`: 1 it has, 0 it has not. It need not be a child. */
int ce_wait_gone(pid_t pid, int milliseconds);
/* posix_spawnp(3) in a process group of its own, with no signal blocked and /dev/null as input; the output goes to the
   two descriptors. */
int ce_spawn(pid_t *pid, char *const arguments[], char *const environment[], const char *folder, int out, int err);
/* waitpid(2): the exit code, or 1000 + the signal. */
int ce_wait(pid_t pid);
