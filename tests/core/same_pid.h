/*
 * same_pid.h - a child of fork() that has its parent's process id, since each of the two is the
 * first process of a PID namespace.
 */
#ifndef SAME_PID_H
#define SAME_PID_H

#include <sched.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { SAME_PID_REFUSED = 77 };

/* A search for leaks at the end needs a thread, which this process can no longer have. */
static bool same_pid_unshared;

/* The next child is the first process of a namespace of its own: false if that is not allowed. */
static inline bool same_pid_unshare(void)
{
    same_pid_unshared = true;
    return unshare(CLONE_NEWPID) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0;
}

/* Forks; the child runs `function` and ends with its checks' result. The child's status. */
static inline int same_pid_fork(int (*function)(void))
{
    int status = 0;

    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        status = function();
        if (same_pid_unshared) {
            fflush(stdout);
            _exit(status);
        }
        exit(status);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child, "no child");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int (*same_pid_parent)(void), (*same_pid_child)(void);

static inline int same_pid_second(void)
{
    CHECK_EQ(getpid(), 1);
    same_pid_child();
    return check_result();
}

static inline int same_pid_first(void)
{
    CHECK_EQ(getpid(), 1);
    same_pid_parent();
    if (!same_pid_unshare()) {
        return SAME_PID_REFUSED;
    }
    const int status = same_pid_fork(same_pid_second);
    CHECK_EQ(status, 0);
    return check_result();
}

static inline int same_pid_outer(void)
{
    return same_pid_unshare() ? same_pid_fork(same_pid_first) : SAME_PID_REFUSED;
}

/* Calls parent() in a process and then child() in a child of it that has the same id. Says so and
 * does nothing if the system does not allow that. */
static inline void same_pid(int (*parent)(void), int (*child)(void))
{
    same_pid_parent = parent;
    same_pid_child = child;
    const int status = same_pid_fork(same_pid_outer);
    if (status == SAME_PID_REFUSED) {
        printf("not tried: a child with its parent's process id, which needs PID namespaces\n");
        return;
    }
    CHECK_EQ(status, 0);
}

#endif
