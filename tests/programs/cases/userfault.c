/* A program with a userfaultfd of its own: on new memory it answers what is missing itself, and sees each page once. */
#include "case.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGES 512UL
#define BYTES (PAGES * PAGE)
#define SEED 40

static int fd;
static char *base;
static size_t asked;

static void answer(uint64_t address) {
    static char page[PAGE] __attribute__((aligned(4096)));
    uint64_t at = address & ~(PAGE - 1);
    write_contents(page, PAGE, SEED + (at - (uint64_t)base) / PAGE);
    struct uffdio_copy copy = {.dst = at, .src = (uint64_t)page, .len = PAGE};
    /* Before the thread that waits goes on and looks. */
    asked++;
    if (ioctl(fd, UFFDIO_COPY, &copy) != 0 && errno != EEXIST)
        fail("UFFDIO_COPY");
}

static void *serve(void *unused) {
    (void)unused;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, 20000) == 1) {
        struct uffd_msg message;
        if (read(fd, &message, sizeof message) != sizeof message)
            continue;
        if (message.event != UFFD_EVENT_PAGEFAULT)
            break;
        answer(message.arg.pagefault.address);
    }
    return NULL;
}

static void open_it(bool by_device) {
    fd = by_device ? -1 : (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (by_device) {
        int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        fd = device < 0 ? (int)syscall(SYS_userfaultfd, O_CLOEXEC) : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
        close(device);
    }
    struct uffdio_api api = {.api = UFFD_API};
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
        fail("userfaultfd");
}

static void registers(char *at, size_t bytes) {
    struct uffdio_register range = {.range = {(uint64_t)at, bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    int refused = ioctl(fd, UFFDIO_REGISTER, &range);
    printf("register %s\n", refused ? strerror(errno) : "works");
    if (refused)
        exit(1);
}

static size_t wrong_pages(void) {
    size_t wrong = 0;
    for (size_t page = 0; page < PAGES; page++)
        wrong += wrong_words(base + page * PAGE, PAGE, SEED + page) != 0;
    return wrong;
}

int main(int count, char **words) {
    open_it(count > 1 && strcmp(words[1], "device") == 0);
    char *around = map_memory(3 * BYTES);
    write_contents(around, BYTES, 1);
    write_contents(around + 2 * BYTES, BYTES, 2);
    base = around + BYTES;
    registers(base, BYTES);
    pthread_t thread;
    pthread_create(&thread, NULL, serve, NULL);
    printf("wrong pages %zu\n", wrong_pages());
    press(40 * MIB);
    printf("later %zu, asked %zu\n", wrong_pages(), asked);
    /* What is discarded is missing again. */
    madvise(base, 8 * PAGE, MADV_DONTNEED);
    printf("discarded %zu, asked %zu\n", wrong_pages(), asked);
    struct uffdio_range range = {(uint64_t)base, BYTES};
    printf("unregister %d\n", ioctl(fd, UFFDIO_UNREGISTER, &range));
    madvise(base, PAGE, MADV_DONTNEED);
    printf("now zero %d, others %zu\n", base[100], wrong_pages());
    printf("around %zu %zu\n", wrong_words(around, BYTES, 1), wrong_words(around + 2 * BYTES, BYTES, 2));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(wrong_pages() == 1 && wrong_words(around, BYTES, 1) == 0 ? 0 : 1);
    int status = -1;
    waitpid(pid, &status, 0);
    printf("child %d\n", status);
    printf("unmap %d\n", munmap(around, 3 * BYTES));
    char *again = map_memory(BYTES);
    write_contents(again, BYTES, 3);
    press(40 * MIB);
    printf("again %zu\n", wrong_words(again, BYTES, 3));
    return 0;
}
