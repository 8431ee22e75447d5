/* Calls about processes, local sockets and mounts that the Glibc module does not show to Swift.
   Every function returns the call's value, or -errno. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

/* A listening SOCK_STREAM socket with the given name in an open directory; O_CLOEXEC. The path that the kernel sees is
   /proc/self/fd/N/NAME, so the directory's own path may be longer than sockaddr_un has room for. */
int cl_unix_listen(int directory, const char *name, int backlog);
int cl_unix_connect(int directory, const char *name);
/* The same with a name that belongs to no directory (unix(7), "abstract"), for a file system that has no room for one. */
int cl_unix_listen_abstract(const char *name, int backlog);
int cl_unix_connect_abstract(const char *name);
int cl_accept(int fd);
/* SO_PEERCRED: who connected, or who listened. */
int cl_peer(int fd, int32_t *pid, uint32_t *uid);
/* SO_SNDTIMEO. */
int cl_send_deadline(int fd, int seconds);

/* pidfd_open(2). */
int cl_pidfd_open(pid_t pid);
/* posix_spawn(3) in a session of its own: standard input and output are `null`, `error` is standard error and `status`
   descriptor 3; no signal is blocked and none ignored in the child. */
int cl_spawn_daemon(const char *path, char *const arguments[], int null, int error, int status, pid_t *pid);

/* umount2(2): at once (EBUSY when in use), or MNT_DETACH. Links are not followed. */
int cl_unmount(const char *path, int lazy);
/* FIFREEZE and FITHAW on the file system that holds fd. */
int cl_freeze(int fd);
int cl_thaw(int fd);

/* RLIMIT_CORE 0; RLIMIT_NOFILE at its hard limit. */
int cl_forbid_core_dumps(void);
int cl_raise_open_files(void);

/* Columns of the terminal, 0 if it is none. */
int cl_terminal_columns(int fd);
