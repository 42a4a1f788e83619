/* Options, threads, the watchdog and the results. */
#define _GNU_SOURCE
#include "verifier.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HANG_SECONDS 60
#define MAX_RESULTS 128

struct options options = {
	.threads = 4, .seed = 1, .seconds = 5, .bytes = 256UL << 20, .phase = "all", .fork_seconds = 0.25,
};

/* A worker's sign of life. Each has a line of the processor's cache to itself. */
struct pulse {
	_Alignas(64) atomic_ulong beats;
	atomic_bool working;
};

static struct pulse *pulses;

struct line {
	const char *phase;
	const char *name;
	double value;
};

static struct line lines[MAX_RESULTS];
static size_t line_count;

double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

void die(const char *what)
{
	perror(what);
	_exit(EXIT_SYSTEM);
}

static void *map(size_t bytes, int flags)
{
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		die("mmap");
	return base;
}

/* Shared memory is outside Quire: the model is kept there. */
void *map_unmanaged(size_t bytes)
{
	return map(bytes, MAP_SHARED);
}

void *map_managed(size_t bytes)
{
	return map(bytes, MAP_PRIVATE);
}

void beat(unsigned thread)
{
	atomic_fetch_add_explicit(&pulses[thread].beats, 1, memory_order_relaxed);
}

void result(const char *phase, const char *name, double value)
{
	if (line_count < MAX_RESULTS)
		lines[line_count++] = (struct line){phase, name, value};
}

/*
 * Ends the process when a worker made no progress for HANG_SECONDS. It counts its own ticks and not the
 * clock: a process that was stopped for a while did not hang.
 */
static void *watchdog(void *unused)
{
	unsigned long seen[MAX_THREADS] = {0};
	unsigned idle[MAX_THREADS] = {0};
	for (;;) {
		sleep(1);
		for (unsigned i = 0; i < options.threads; i++) {
			unsigned long beats = atomic_load(&pulses[i].beats);
			bool stuck = atomic_load(&pulses[i].working) && beats == seen[i];
			idle[i] = stuck ? idle[i] + 1 : 0;
			seen[i] = beats;
			if (idle[i] < HANG_SECONDS)
				continue;
			dprintf(STDERR_FILENO, "verifier: HANG: thread %u idle for %d s\n", i, HANG_SECONDS);
			_exit(EXIT_HANG);
		}
	}
	return unused;
}

struct job {
	void (*work)(unsigned thread, void *context);
	void *context;
	unsigned thread;
};

static void *run_job(void *argument)
{
	struct job *job = argument;
	atomic_store(&pulses[job->thread].working, true);
	job->work(job->thread, job->context);
	atomic_store(&pulses[job->thread].working, false);
	return NULL;
}

/* Runs `work` on fresh threads, joins them, and returns the seconds it took. */
double run_threads(void (*work)(unsigned thread, void *context), void *context)
{
	pthread_t threads[MAX_THREADS];
	struct job jobs[MAX_THREADS];
	double start = now();
	for (unsigned i = 0; i < options.threads; i++) {
		jobs[i] = (struct job){work, context, i};
		if (pthread_create(&threads[i], NULL, run_job, &jobs[i]))
			die("pthread_create");
	}
	for (unsigned i = 0; i < options.threads; i++)
		pthread_join(threads[i], NULL);
	return now() - start;
}

static void print_summary(void)
{
	printf("verifier: ok: %u threads, %zu MiB, seed %lu\n", options.threads, options.bytes >> 20,
	       options.seed);
	const char *phase = "";
	for (size_t i = 0; i < line_count; i++) {
		if (strcmp(phase, lines[i].phase))
			printf("%s%s:", i ? "\n" : "", lines[i].phase);
		phase = lines[i].phase;
		printf(" %s=%.6g", lines[i].name, lines[i].value);
	}
	printf("\n");
}

static void write_json(const char *path)
{
	FILE *file = fopen(path, "w");
	if (!file)
		die(path);
	fprintf(file, "{\"threads\": %u, \"bytes\": %zu, \"seed\": %lu", options.threads, options.bytes,
		options.seed);
	const char *phase = "";
	for (size_t i = 0; i < line_count; i++) {
		bool opens = strcmp(phase, lines[i].phase);
		if (opens)
			fprintf(file, "%s, \"%s\": {", i ? "}" : "", lines[i].phase);
		phase = lines[i].phase;
		fprintf(file, "%s\"%s\": %.6f", opens ? "" : ", ", lines[i].name, lines[i].value);
	}
	fprintf(file, "%s}\n", line_count ? "}" : "");
	if (fclose(file))
		die(path);
}

static void usage(void)
{
	fprintf(stderr, "usage: verifier [--threads N] [--seed N] [--seconds S] [--bytes N[K|M|G]]\n"
			"                [--phase seq|random|chaos|all] [--fork-every SECONDS] [--sabotage] [--json FILE]\n");
	exit(EXIT_USAGE);
}

static size_t parse_bytes(const char *text)
{
	char *end;
	size_t bytes = strtoull(text, &end, 10);
	switch (*end) {
	case 'G':
		bytes <<= 10; /* fall through */
	case 'M':
		bytes <<= 10; /* fall through */
	case 'K':
		bytes <<= 10; /* fall through */
	case '\0':
		break;
	default:
		usage();
	}
	return bytes < (1UL << 20) ? 1UL << 20 : bytes;
}

static bool is_phase(const char *text)
{
	return !strcmp(text, "seq") || !strcmp(text, "random") || !strcmp(text, "chaos") || !strcmp(text, "all");
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{"threads", required_argument, NULL, 't'}, {"seed", required_argument, NULL, 's'},
		{"seconds", required_argument, NULL, 'S'}, {"bytes", required_argument, NULL, 'b'},
		{"phase", required_argument, NULL, 'p'},   {"json", required_argument, NULL, 'j'},
		{"fork-every", required_argument, NULL, 'f'}, {"sabotage", no_argument, NULL, 'x'},
		{NULL, 0, NULL, 0},
	};
	for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (name) {
		case 't': options.threads = (unsigned)atoi(optarg); break;
		case 's': options.seed = strtoull(optarg, NULL, 10); break;
		case 'S': options.seconds = atof(optarg); break;
		case 'b': options.bytes = parse_bytes(optarg); break;
		case 'p': options.phase = optarg; break;
		case 'j': options.json = optarg; break;
		case 'f': options.fork_seconds = atof(optarg); break;
		case 'x': options.sabotage = true; break;
		default: usage();
		}
	}
	if (optind < argc || !is_phase(options.phase) || options.threads < 1 || options.threads > MAX_THREADS)
		usage();
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	pulses = map_unmanaged(MAX_THREADS * sizeof(struct pulse));
	pthread_t dog;
	if (pthread_create(&dog, NULL, watchdog, NULL))
		die("pthread_create");
	bool all = !strcmp(options.phase, "all");
	double seconds = all ? options.seconds / 3 : options.seconds;
	if (all || !strcmp(options.phase, "seq"))
		phase_sequential(seconds);
	if (all || !strcmp(options.phase, "random"))
		phase_random(seconds);
	if (all || !strcmp(options.phase, "chaos"))
		phase_chaos(seconds);
	print_summary();
	if (options.json)
		write_json(options.json);
	return EXIT_MATCH;
}
