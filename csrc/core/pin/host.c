/*
 * host.c - what the host is: the size of its pages, and which process this is.
 */
#include "core/pin/host.h"
#include "iova_bitmap.h"

#ifdef _WIN32

#include <windows.h>

uint64_t iova_bitmap_host_page_size(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwPageSize;
}

uint64_t iova_process_generation(void)
{
    return 0; /* there is no fork() */
}

#else

#include <pthread.h>
#include <unistd.h>

static uint64_t forks; /* between the process that asked first and this one */
static int uncounted;  /* the errno for which they are not counted */

uint64_t iova_bitmap_host_page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static void count_fork(void)
{
    forks++; /* in the child, by its only thread */
}

static void begin_to_count(void)
{
    uncounted = pthread_atfork(NULL, NULL, count_fork);
}

uint64_t iova_process_generation(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, begin_to_count);
    return uncounted == 0 ? forks : (uint64_t)getpid(); /* better than nothing */
}

#endif
