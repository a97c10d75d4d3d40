/*
 * replay.c - runs the fuzz target on the inputs of a corpus, without a fuzzer: any compiler, any
 * machine. `replay PATH` runs a file, or every file of a folder. Without it the environment
 * variable IOVABITMAP_CORPUS names the folder, and inputs of noise follow: long lists of
 * operations, the same on every machine. An input that is a find ends the program, which names it.
 */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sanitizers, where there are any, end the program by SIGABRT, after their report. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
void __asan_init(void) __attribute__((weak));

const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}

const char *__ubsan_default_options(void)
{
    return "abort_on_error=1";
}

static char path[4096]; /* of the input that runs */

static void name_the_find(void)
{
    static const char find[] = "the find: ";

    if (write(STDERR_FILENO, find, sizeof(find) - 1) < 0 ||
        write(STDERR_FILENO, path, strlen(path)) < 0 || write(STDERR_FILENO, "\n", 1) < 0) {
        _exit(1);
    }
}

static void on_signal(int number)
{
    name_the_find();
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_for_finds(void)
{
    signal(SIGABRT, on_signal);
    if (__asan_init == NULL) {
        signal(SIGSEGV, on_signal);
        signal(SIGBUS, on_signal);
    }
}

static void run_input(const uint8_t *data, size_t size)
{
    /* A copy of exactly its size, so that reading past the end is seen. */
    uint8_t *copy = malloc(size + (size == 0));

    if (copy == NULL) {
        exit(1);
    }
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_noise(void)
{
    enum { INPUTS = 100, LONGEST = 1000 };
    static uint8_t data[LONGEST];
    uint64_t state = 1;

    for (unsigned n = 0; n < INPUTS; n++) {
        snprintf(path, sizeof(path), "noise %u", n);
        for (size_t i = 0; i < LONGEST; i++) {
            data[i] = (uint8_t)(check_random(&state) >> 32);
        }
        run_input(data, 100 + (size_t)(check_random(&state) % (LONGEST - 100)));
    }
}

static void run_file(void)
{
    static uint8_t data[1 << 16];
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        perror(path);
        exit(1);
    }
    const size_t size = fread(data, 1, sizeof(data), file);
    fclose(file);
    run_input(data, size);
}

static unsigned run_folder(const char *folder, DIR *files)
{
    unsigned n = 0;

    for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            run_file();
            n++;
        }
    }
    closedir(files);
    return n;
}

int main(int argc, char **argv)
{
    const char *from = argc > 1 ? argv[1] : getenv("IOVABITMAP_CORPUS");

    if (from == NULL) {
        printf("name a file or a folder, or set IOVABITMAP_CORPUS\n");
        return 77;
    }
    LLVMFuzzerInitialize(&argc, &argv);
    watch_for_finds();
    DIR *files = opendir(from);
    if (files == NULL) {
        snprintf(path, sizeof(path), "%s", from);
        run_file();
    } else if (run_folder(from, files) == 0) {
        printf("no inputs in %s\n", from);
        return 1;
    } else if (argc == 1) {
        run_noise();
    }
    printf("%s: no find\n", from);
    return 0;
}
