/*
 * preload.c - what is loaded into a program that CommandTracker runs: it hands the program's memory
 * over to the tracker, and tells it when the program ends.
 *
 * A userfaultfd, /proc/self/pagemap and /proc/self/maps stand for this process's memory whoever
 * holds them. So the three descriptors are sent to the tracker over a Unix socket, at start and
 * after each fork(), and the program waits until the tracker has armed the memory; everything else
 * happens there. Nothing stays behind in the program: no descriptor, no thread, no handler. A
 * tracker that is gone costs a failed connect().
 *
 * Only system calls that are safe after fork() in a program with threads; errno is kept.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall, SOCK_CLOEXEC */
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define UFFD_USER_MODE_ONLY 1
#define UFFD_IOCTL_NEW _IO(0xaa, 0x00) /* on /dev/userfaultfd */

/* NAME:TOKEN, the tracker's socket in the abstract name space and what it knows us by. */
#define VARIABLE "IOVABITMAP_TRACKER"

enum { HELLO = 1, BYE = 2, TOKEN_MAX = 64, FDS = 3 };

struct message {
    uint32_t kind;
    int32_t error; /* of HELLO without descriptors: the errno */
    char token[TOKEN_MAX];
};

static struct sockaddr_un tracker; /* sun_family 0: there is none */
static socklen_t tracker_size;
static char token[TOKEN_MAX];
static int tracked_by_us; /* this process: a HELLO was answered, and no BYE sent */

static int open_userfaultfd(void)
{
    const int flags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
    int fd = (int)syscall(SYS_userfaultfd, flags);

    if (fd >= 0 || errno != EPERM) {
        return fd;
    }
    /* The system call can be forbidden where the administrator has given us the device. */
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        fd = ioctl(device, UFFD_IOCTL_NEW, flags);
        close(device);
    }
    return fd;
}

/* Opens what stands for this process's memory. 0, or -1 and errno with none open. */
static int open_memory(int fds[FDS])
{
    fds[0] = open_userfaultfd();
    fds[1] = fds[0] < 0 ? -1 : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    fds[2] = fds[1] < 0 ? -1 : open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fds[2] >= 0) {
        return 0;
    }
    int error = errno;
    for (int i = 0; i < FDS && fds[i] >= 0; i++) {
        close(fds[i]);
    }
    errno = error;
    return -1;
}

static int send_message(int sock, const struct message *message, const int *fds)
{
    struct iovec part = {(void *)(uintptr_t)message, sizeof(*message)};
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS)];
        struct cmsghdr align;
    } control;
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (fds != NULL) {
        memset(&control, 0, sizeof(control));
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * FDS);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * FDS);
    }
    return sendmsg(sock, &header, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* Sends, and waits for the tracker's answer. 0 where it came; -1 also where the tracker is gone. */
static int tell(const struct message *message, const int *fds)
{
    char answer;
    ssize_t got = -1;
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (sock < 0) {
        return -1;
    }
    if (connect(sock, (const struct sockaddr *)&tracker, tracker_size) == 0 &&
        send_message(sock, message, fds) == 0) {
        do {
            got = recv(sock, &answer, 1, 0);
        } while (got < 0 && errno == EINTR);
    }
    close(sock);
    return got == 1 ? 0 : -1;
}

static void hello(void)
{
    struct message message = {.kind = HELLO};
    int fds[FDS];
    int saved = errno;

    tracked_by_us = 0;
    if (tracker.sun_family == 0) {
        return;
    }
    memcpy(message.token, token, sizeof(token));
    if (open_memory(fds) == 0) {
        tracked_by_us = tell(&message, fds) == 0;
        for (int i = 0; i < FDS; i++) {
            close(fds[i]);
        }
    } else {
        message.error = errno;
        tell(&message, NULL);
    }
    errno = saved;
}

static void bye(void)
{
    struct message message = {.kind = BYE};
    int saved = errno;

    if (tracked_by_us) {
        tracked_by_us = 0;
        memcpy(message.token, token, sizeof(token));
        tell(&message, NULL);
    }
    errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
    const char *value = getenv(VARIABLE);
    const char *colon = value == NULL ? NULL : strchr(value, ':');

    if (colon == NULL || colon == value || strlen(colon + 1) >= sizeof(token) ||
        (size_t)(colon - value) > sizeof(tracker.sun_path) - 1) {
        return;
    }
    size_t name = (size_t)(colon - value);
    memcpy(token, colon + 1, strlen(colon + 1));
    memcpy(tracker.sun_path + 1, value, name); /* abstract: the first byte is 0 */
    tracker_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + name);
    tracker.sun_family = AF_UNIX;
    pthread_atfork(NULL, NULL, hello);
    hello();
}

__attribute__((destructor)) static void end(void)
{
    bye();
}

/* A forked child usually ends so, without destructors. */
__attribute__((visibility("default"), noreturn)) void _exit(int status)
{
    bye();
    for (;;) {
        syscall(SYS_exit_group, status);
    }
}

__attribute__((visibility("default"), noreturn)) void _Exit(int status)
{
    _exit(status);
}
