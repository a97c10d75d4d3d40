/*
 * faults.h - allocations and system calls that fail when a test says so.
 *
 * The linker puts the functions here between the engine and the C library (--wrap, in the .link
 * file beside the program), so they are only in the programs that want them. The C library's own
 * calls are not seen.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>

/* Which calls fail: those of `call` after the first `skip` of them, `times` of them (0: all). */
struct fault_plan {
    const char *call; /* "memory" is every sort of allocation */
    const char *path; /* of files: only those whose path starts so */
    unsigned skip;
    unsigned times;
    int error;
};

static struct fault_plan fault_plan;
static unsigned fault_hits;      /* calls that failed */
static unsigned fault_seen;      /* calls of that name since the plan was made */
static int64_t fault_live;       /* blocks and mappings that were not given back */
static uint64_t fault_map_bytes; /* of the largest mapping that may be made, if not 0 */

static inline void fault_make(struct fault_plan plan)
{
    fault_plan = plan;
    fault_hits = fault_seen = 0;
}

static inline void fault_none(void)
{
    fault_plan = (struct fault_plan){0};
}

/* Whether this call fails now. */
static inline bool fault(const char *call, const char *path)
{
    if (fault_plan.call == NULL || strcmp(call, fault_plan.call) != 0 ||
        (fault_plan.path != NULL && strncmp(path, fault_plan.path, strlen(fault_plan.path)) != 0)) {
        return false;
    }
    const unsigned number = fault_seen++;
    if (number < fault_plan.skip ||
        (fault_plan.times != 0 && number - fault_plan.skip >= fault_plan.times)) {
        return false;
    }
    fault_hits++;
    errno = fault_plan.error;
    return true;
}

/* --- memory -------------------------------------------------------------------------------- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *block);
void *__real_mmap(void *address, size_t size, int how, int flags, int fd, off_t offset);
void *__real_mremap(void *old, size_t old_size, size_t size, int flags, ...);
int __real_munmap(void *address, size_t size);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *block);
void *__wrap_mmap(void *address, size_t size, int how, int flags, int fd, off_t offset);
void *__wrap_mremap(void *old, size_t old_size, size_t size, int flags, ...);
int __wrap_munmap(void *address, size_t size);

static inline void *fault_counted(void *made)
{
    fault_live += made != NULL && made != MAP_FAILED;
    return made;
}

void *__wrap_malloc(size_t size)
{
    return fault("memory", "") ? NULL : fault_counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fault("memory", "") ? NULL : fault_counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    if (fault("memory", "")) {
        return NULL;
    }
    void *made = __real_realloc(old, size);
    return old == NULL ? fault_counted(made) : made;
}

void __wrap_free(void *block)
{
    fault_live -= block != NULL;
    __real_free(block);
}

void *__wrap_mmap(void *address, size_t size, int how, int flags, int fd, off_t offset)
{
    if (fault("memory", "") || (fault_map_bytes != 0 && size > fault_map_bytes)) {
        return MAP_FAILED;
    }
    return fault_counted(__real_mmap(address, size, how, flags, fd, offset));
}

void *__wrap_mremap(void *old, size_t old_size, size_t size, int flags, ...)
{
    return fault("memory", "") ? MAP_FAILED : __real_mremap(old, old_size, size, flags);
}

int __wrap_munmap(void *address, size_t size)
{
    fault_live--;
    return __real_munmap(address, size);
}

#endif
