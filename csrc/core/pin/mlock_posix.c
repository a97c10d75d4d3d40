/*
 * mlock_posix.c - the pin backend "mlock": pages locked in memory, within RLIMIT_MEMLOCK.
 *
 * The system does not count locks: one munlock undoes every mlock of a page. So this file keeps a
 * list of what all bitmaps of the process hold, and unlocks only what no other of them holds. Locks
 * that the program made by other means on the same pages are not known here and are lost.
 *
 * A child of fork() inherits no lock, so its list is empty: the pages of windows that were taken
 * before are not locked in it, until such a window is taken again.
 */
#include "core/pin/pin.h"

#ifndef _WIN32

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

/* One pin that was delivered: bytes [start, end) of memory. */
struct held {
    struct held *next;
    uintptr_t start;
    uintptr_t end;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list and the calls */
static struct held *all_held;
static int at_fork; /* 0, or why a fork leaves the child no list of its own */

/* A fork by one thread while another stands in here must not leave the child a closed lock. */
static void close_lock(void)
{
    pthread_mutex_lock(&lock);
}

static void open_lock(void)
{
    pthread_mutex_unlock(&lock);
}

static void open_lock_in_child(void)
{
    while (all_held != NULL) {
        struct held *held = all_held;
        all_held = held->next;
        free(held);
    }
    open_lock();
}

static void register_at_fork(void)
{
    at_fork = pthread_atfork(close_lock, open_lock, open_lock_in_child);
}

/* Unlocks the parts of [start, end) that no pin holds. */
static void unlock_unheld(uintptr_t start, uintptr_t end)
{
    while (start < end) {
        uintptr_t held_to = start; /* end of a pin that covers start */
        uintptr_t free_to = end;   /* start of the next pin behind it */
        for (const struct held *held = all_held; held != NULL; held = held->next) {
            if (held->start <= start && held->end > held_to) {
                held_to = held->end;
            } else if (held->start > start && held->start < free_to) {
                free_to = held->start;
            }
        }
        if (held_to > start) {
            start = held_to;
        } else {
            munlock((void *)start, free_to - start);
            start = free_to;
        }
    }
}

static int lock_pages(uintptr_t address, uint64_t npages, enum iova_bitmap_access access)
{
    size_t size = (size_t)(npages * iova_bitmap_host_page_size());
    (void)access;

    if (mlock((void *)address, size) == 0) {
        return 0;
    }
    int error = errno;
    unlock_unheld(address, address + size); /* a failed call may have locked a part */
    return -error;
}

static int64_t mlock_pin(void *context, uintptr_t address, uint64_t npages,
                         enum iova_bitmap_access access)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)context;

    pthread_once(&once, register_at_fork);
    struct held *held = at_fork == 0 ? malloc(sizeof(*held)) : NULL;
    if (held == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_lock(&lock);
    int64_t got = iova_pin_longest_prefix(lock_pages, address, npages, access);
    if (got > 0) {
        held->start = address;
        held->end = address + (uintptr_t)got * (uintptr_t)iova_bitmap_host_page_size();
        held->next = all_held;
        all_held = held;
    } else {
        free(held);
    }
    pthread_mutex_unlock(&lock);
    return got;
}

static void mlock_unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    uintptr_t end = address + (uintptr_t)npages * (uintptr_t)iova_bitmap_host_page_size();

    pthread_mutex_lock(&lock);
    for (struct held **link = &all_held; *link != NULL; link = &(*link)->next) {
        struct held *held = *link;
        if (held->start == address && held->end == end) {
            *link = held->next;
            free(held);
            break;
        }
    }
    unlock_unheld(address, end);
    pthread_mutex_unlock(&lock);
}

static const struct iova_bitmap_pin_ops mlock_ops = {.pin = mlock_pin, .unpin = mlock_unpin};

const struct iova_bitmap_pin_ops *iova_pin_mlock(void)
{
    return &mlock_ops;
}

#else

const struct iova_bitmap_pin_ops *iova_pin_mlock(void)
{
    return NULL;
}

#endif
