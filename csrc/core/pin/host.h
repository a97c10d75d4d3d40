/*
 * host.h - what the host is: which process this is. Its page size is iova_bitmap_host_page_size().
 */
#ifndef IOVA_HOST_H
#define IOVA_HOST_H

#include <stdint.h>

/*
 * A number that tells a child of fork() from its parent: what a process does not inherit (tracked
 * pages, other threads) is marked with it. Not the process id, which the two share if the child is
 * in a PID namespace of its own. A child made by a bare clone() system call, past the C library,
 * has its parent's number.
 */
uint64_t iova_process_generation(void);

#endif
