/* What faults cost: fills memory that compresses about 2.5x, scans it, then reads its pages at random until that is steady.
 * Prints microseconds per page. Arguments: MiB, rounds of random reads (each as many reads as there are pages). */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096UL
#define WORDS (PAGE / 8)

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

int main(int count, char **words)
{
	size_t pages = (count > 1 ? strtoul(words[1], NULL, 10) : 512) << 8;
	unsigned long rounds = count > 2 ? strtoul(words[2], NULL, 10) : 6;
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	double start = now();
	for (size_t page = 0; page < pages; page++)
		for (size_t i = 0; i < WORDS; i++)
			memory[page * WORDS + i] = i % 3 == 0 ? next_random() : page;
	printf("fill %.3f\n", (now() - start) / (double)pages);
	uint64_t wrong = 0;
	start = now();
	for (size_t page = 0; page < pages; page++)
		wrong += memory[page * WORDS + 1] != page;
	printf("scan %.3f\n", (now() - start) / (double)pages);
	for (unsigned long round = 0; round < rounds; round++) {
		start = now();
		for (size_t i = 0; i < pages; i++) {
			size_t page = next_random() % pages;
			wrong += memory[page * WORDS + 1] != page;
		}
	}
	printf("random %.3f\n", (now() - start) / (double)pages);
	return wrong != 0;
}
