/*
 * test_host.c - which process this is: children differ from their parents, threads do not, whatever
 * the process ids say.
 */
#ifdef __linux__

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "core/pin/host.h"
#include "iova_bitmap.h"
#include "same_pid.h"

int __real_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

static bool atfork_fails;

int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return atfork_fails ? ENOMEM : __real_pthread_atfork(prepare, parent, child);
}

static uint64_t before;

static int ask(void)
{
    before = iova_process_generation();
    CHECK_EQ(iova_process_generation(), before);
    return check_result();
}

static int differ(void)
{
    CHECK(iova_process_generation() != before, "generation %" PRIu64 " again", before);
    return check_result();
}

static int differ_further(void)
{
    const uint64_t first = before;

    differ();
    ask();
    CHECK_EQ(same_pid_fork(differ), 0);
    CHECK(iova_process_generation() == before && before != first, "changed by a child");
    return check_result();
}

static void *ask_in_a_thread(void *unused)
{
    (void)unused;
    CHECK_EQ(iova_process_generation(), before);
    return NULL;
}

/* Forks cannot be counted: then the process id has to do. */
static int do_without_a_count(void)
{
    atfork_fails = true;
    ask();
    CHECK_EQ(before, getpid());
    CHECK_EQ(same_pid_fork(differ), 0);
    return check_result();
}

/* One mlock pin fails if a fork could not be told, since a child would inherit the list of pins. */
static int pin_without_a_count(void)
{
    const struct iova_bitmap_pin_ops *ops = NULL;
    const uintptr_t page = (uintptr_t)&before & ~(uintptr_t)(iova_bitmap_host_page_size() - 1);

    atfork_fails = true;
    CHECK_EQ(iova_bitmap_pin_backend("mlock", &ops), 0);
    CHECK_EQ(ops->pin(NULL, page, 1, IOVA_BITMAP_READ), -ENOMEM);
    return check_result();
}

int main(void)
{
    pthread_t thread;

    CHECK_EQ(iova_bitmap_host_page_size(), sysconf(_SC_PAGESIZE));
    CHECK_EQ(same_pid_fork(do_without_a_count), 0);
    CHECK_EQ(same_pid_fork(pin_without_a_count), 0);
    ask();
    CHECK_EQ(pthread_create(&thread, NULL, ask_in_a_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(same_pid_fork(differ_further), 0);
    same_pid(ask, differ);
    return check_result();
}

#else

#include "check.h"

int main(void)
{
    check_skip("namespaces are Linux's");
}

#endif
