/*
 * test_write_tracker_life.c - a collect that its caller ends, and a tracker that a child of fork()
 * has too: nothing is lost, and nothing of the parent's is taken for the child's.
 */
#ifdef __linux__

#include "same_pid.h"
#include "tracked.h"

/* Counts what collect calls, and has poll end it before the batch of that number. */
struct calls {
    unsigned before, after, polls, last_poll;
    uint8_t *written; /* in the midst of a scan; the kernel is not asked for it again */
};

static void before_scan(void *context)
{
    struct calls *calls = context;

    CHECK_EQ(calls->before, calls->after);
    calls->before++;
}

static void after_scan(void *context)
{
    struct calls *calls = context;

    calls->after++;
    CHECK_EQ(calls->before, calls->after);
    *calls->written = 1;
}

static int poll(void *context)
{
    struct calls *calls = context;

    CHECK_EQ(calls->before, calls->after);
    return calls->polls++ == calls->last_poll;
}

/* Every second page is written, which is three batches; the poll ends collect before any of them.
 * Then the report says what was marked, and the next collect brings the rest. */
static void test_hooks(void)
{
    const uint64_t npages = 40000;
    const uint64_t base = 0x100000;
    uint8_t *memory = map(npages);
    uint8_t *model = calloc(1, npages);
    uint8_t *bits;
    struct iova_write_tracker *tracker = started(memory, npages * page, base);
    struct iova_bitmap *into = bitmap(base, npages * page, page, NULL, &bits);
    struct iova_bitmap_report report;

    for (unsigned ends = 0; ends <= 4; ends++) {
        struct calls calls = {.last_poll = ends, .written = memory};
        const struct iova_write_tracker_hooks hooks = {before_scan, after_scan, poll, &calls};
        for (uint64_t i = 1; i < npages; i += 2) {
            memory[i * page]++;
            model[i] = 1;
        }
        int rc = iova_write_tracker_collect(tracker, into, &hooks, &report);
        uint64_t marked = report.pages;
        if (ends < 3) {
            CHECK_EQ(rc, -EINTR);
            CHECK_EQ(iova_write_tracker_step(tracker), IOVA_WRITE_TRACKER_POLL);
            CHECK_EQ(calls.after, ends);
            CHECK(report.iova >= base, "0x%" PRIx64, report.iova);
            CHECK_EQ(report.iova + report.length, base + npages * page);
            for (uint64_t i = 0; i < npages; i++) {
                const bool want = i % 2 != 0 && base + i * page < report.iova;
                CHECK(((bits[i / 8] >> i % 8) & 1) == want, "page %" PRIu64, i);
            }
            CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), 0);
            marked += report.pages - (ends > 0);
        } else {
            CHECK_EQ(rc, 0);
            CHECK_EQ(iova_write_tracker_step(tracker), IOVA_WRITE_TRACKER_NONE);
            CHECK_EQ(calls.after, 3);
        }
        CHECK_EQ(marked, npages / 2);
        CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, NULL), 0);
        model[0] = ends > 0;
        check_bits(bits, model, npages, "after an interruption");
    }
    drop(into, bits);
    iova_write_tracker_free(tracker);
    free(model);
    munmap(memory, npages * page);
}

/* A child has the descriptors, but they stand for the parent's memory. */
static void test_fork(void)
{
    uint8_t *memory = map(4);
    uint8_t *bits;
    struct iova_write_tracker *tracker = started(memory, 4 * page, 0);
    struct iova_bitmap *into = bitmap(0, 4 * page, page, NULL, &bits);
    struct iova_bitmap_report report;
    int status = 0;

    memory[0] = 1;
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        memory[1 * page] = 1; /* its own copy */
        CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -ECHILD);
        iova_write_tracker_stop(tracker);
        CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -EBADF);
        CHECK_EQ(iova_write_tracker_start(tracker), 0);
        memory[2 * page] = 1;
        CHECK_EQ(collect(tracker, into), 1);
        CHECK_EQ(iova_bitmap_test(into, 2 * page), 1);
        iova_write_tracker_free(tracker);
        drop(into, bits);
        exit(check_result());
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "status %d", status);
    memory[3 * page] = 1;
    CHECK_EQ(collect(tracker, into), 2);
    CHECK_EQ(bits[0], 0x9);
    drop(into, bits);
    iova_write_tracker_free(tracker);
    munmap(memory, 4 * page);
}

/* A child has the descriptors too, so that closing ours ends nothing: stop takes every page of the
 * buffer back, which is the last byte of one and the first of the next. */
static void test_stop_beside_a_child(void)
{
    uint8_t *memory = map(2);
    struct iova_write_tracker *tracker = started(memory + page - 1, 2, 0);
    int fds[2], status = 0;
    char byte;

    CHECK_EQ(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fds[1]);
        _exit(read(fds[0], &byte, 1) != 0);
    }
    iova_write_tracker_free(tracker);
    struct iova_write_tracker *first = started(memory, page, 0); /* side by side */
    struct iova_write_tracker *second = started(memory + page, page, 0);
    iova_write_tracker_free(first);
    iova_write_tracker_free(second);
    close(fds[0]);
    close(fds[1]);
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "status %d", status);
    munmap(memory, 2 * page);
}

static uint8_t *same_memory, *same_bits;
static struct iova_write_tracker *same_tracker;
static struct iova_bitmap *same_into;

static int start_here(void)
{
    same_memory = map(2);
    same_tracker = started(same_memory, 2 * page, 0);
    same_into = bitmap(0, 2 * page, page, NULL, &same_bits);
    return check_result();
}

static int refuse_there(void)
{
    struct iova_bitmap_report report;

    CHECK(!iova_write_tracker_started(same_tracker), "started in a child");
    CHECK_EQ(iova_write_tracker_collect(same_tracker, same_into, NULL, &report), -ECHILD);
    CHECK_EQ(iova_write_tracker_start(same_tracker), 0);
    same_memory[page] = 1;
    CHECK_EQ(collect(same_tracker, same_into), 1);
    return check_result();
}

int main(void)
{
    page = iova_bitmap_host_page_size();
    skip_where_impossible();
    test_hooks();
    test_fork();
    test_stop_beside_a_child();
    same_pid(start_here, refuse_there);
    return check_result();
}

#else

#include "check.h"

int main(void)
{
    check_skip("the write tracker needs Linux");
}

#endif
