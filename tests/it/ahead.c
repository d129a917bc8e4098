/* Lets a process live some time ahead: what it is told of the calendar's clock is so many seconds later (POSTERN_TEST_AHEAD).
   The clocks that measure how long something takes are as they were. Loaded before the C library; allocates nothing, since
   the allocator asks for the time before it is ready. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (failed == 0 && clock == CLOCK_REALTIME) {
        const char *ahead = getenv("POSTERN_TEST_AHEAD");
        at->tv_sec += ahead ? atol(ahead) : 0;
    }
    return failed;
}
