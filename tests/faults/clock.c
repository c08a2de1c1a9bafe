/* The time of day, as a process sees it, shifted by the seconds that the file $SHIFTED_CLOCK holds at that moment.

   The file is 8 bytes, a number as this machine stores it. Clocks that only count go on as they are. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;
static int (*clock_of_libc)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHIFTED_CLOCK");
    int descriptor = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    clock_of_libc = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (descriptor < 0)
        return;
    void *seen = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (seen != MAP_FAILED)
        shift = seen;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!clock_of_libc)
        begin();
    int failed = clock_of_libc(clock, now);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds)
{
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return (time_t)-1;
    if (seconds)
        *seconds = precise.tv_sec;
    return precise.tv_sec;
}
