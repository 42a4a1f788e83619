/* What a program's handler is told of a touch that must not be. */
#include "differential.h"

#include <setjmp.h>
#include <signal.h>

static sigjmp_buf before;
static volatile sig_atomic_t number, code;
static char *volatile address;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    number = signal;
    code = info->si_code;
    address = info->si_addr;
    siglongjmp(before, 1);
}

void catch_faults(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

void touch(char *at, enum touch how, struct touched *touched) {
    number = 0;
    if (sigsetjmp(before, 1) == 0) {
        if (how == READ)
            (void)*(volatile char *)at;
        else if (how == WRITE)
            *(volatile char *)at = *(volatile char *)at;
        else
            ((void (*)(void))at)();
    }
    *touched = (struct touched){number, number ? code : 0, number ? address - at : 0};
}

static void name_touch(char *at, enum touch how, char *text, size_t size) {
    struct touched touched;
    touch(at, how, &touched);
    if (touched.number == 0)
        snprintf(text, size, "done");
    else
        snprintf(text, size, "signal %d code %d at %+ld", touched.number, touched.code, touched.offset);
}

static size_t compare_layout(const struct layout *layout, struct zone *kernel, struct zone *ours) {
    static const char *const names[] = {"read", "write", "execute"};
    size_t count = 0;
    make_zone(kernel, layout);
    make_zone(ours, layout);
    for (long page = -2; page < WINDOW_PAGES + 2; page++)
        for (int how = READ; how <= EXECUTE; how++) {
            /* What is executable holds no instructions. */
            if (how == EXECUTE && strcmp(layout->name, "executable") == 0 && page >= 0 && page < WINDOW_PAGES)
                continue;
            char expected[64], seen[64];
            long offset = page * (long)PAGE + 40 + how;
            name_touch(kernel->base + offset, how, expected, sizeof expected);
            name_touch(ours->base + offset, how, seen, sizeof seen);
            if (strcmp(expected, seen) != 0)
                printf("%s: %s of page %ld\t%s\t%s\n", layout->name, names[how], page, expected, seen);
            count++;
        }
    drop_zone(kernel);
    drop_zone(ours);
    return count;
}

size_t compare_faults(char *kernel_area, char *area, const struct way *way) {
    catch_faults();
    struct zone kernel = {.way = &by_kernel, .base = kernel_area + BEFORE_PAGES * PAGE};
    struct zone ours = {.way = way, .base = area + BEFORE_PAGES * PAGE};
    size_t count = 0;
    for (size_t i = 0; i < layout_count; i++)
        count += compare_layout(&layouts[i], &kernel, &ours);
    return count;
}
