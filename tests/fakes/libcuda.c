/* A driver without a GPU: "device" memory is host memory, and work is done when it is put on a stream.
 *
 * tests/device/cuda/test_real_bindings.py runs real CUDA bindings on it, to see that arguments, handles and contexts are
 * right. A call that needs a context and has none on its thread is refused as the driver refuses it; so is an address
 * or a handle that isn't alive.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
enum { OK = 0, INVALID = 1, MEMORY = 2, NO_DEVICE = 101, NO_CONTEXT = 201, HANDLE = 400, REGISTERED = 712, UNKNOWN = 713,
       CAPTURE = 900, NO_CAPTURE = 901 };
enum { DEVICE = 1, PINNED, REGISTRATION, STREAM, EVENT, GRAPH, EXECUTABLE };
enum { DEPTH = 16, LIMIT = 1 << 28 };

struct copy {
    struct copy *next;
    char *to;
    const char *from; /* NULL: fill with value */
    int value;
    size_t n;
};
struct thing {
    struct thing *next;
    int kind, is_mapped;
    char *at;
    size_t n;
    unsigned flags;
    double time_ms;
    int is_capturing;
    struct copy *copies;
};

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static struct thing *things;
static double now_ms;
static int context_storage, retained;
static __thread int depth;

/* The first line of a call: it runs alone until it returns, and may be refused. */
#define GUARDED(need)                                                                          \
    __attribute__((cleanup(unlock), unused)) pthread_mutex_t *held = &lock;                    \
    pthread_mutex_lock(held);                                                                  \
    CUresult refused = enter(__func__, need);                                                  \
    if (refused) return refused

static void unlock(pthread_mutex_t **held) { pthread_mutex_unlock(*held); }

/* FAKE_CUDA_FAIL=cuMemAlloc:2 lets calls whose names start so fail with that number. */
static CUresult enter(const char *call, int needs_context) {
    const char *failing = getenv("FAKE_CUDA_FAIL"), *colon = failing ? strchr(failing, ':') : NULL;
    if (colon && strncmp(call, failing, colon - failing) == 0) return atoi(colon + 1);
    return needs_context && !depth ? NO_CONTEXT : OK;
}

static struct thing *add(int kind, char *at, size_t n) {
    struct thing *t = calloc(1, sizeof *t);
    *t = (struct thing){.next = things, .kind = kind, .at = at ? at : (char *)t, .n = n};
    things = t;
    return t;
}

static struct thing *find(int kind, const void *at) {
    for (struct thing *t = things; t; t = t->next)
        if (t->kind == kind && t->at == at) return t;
    return NULL;
}

static struct thing *around(int kind, const char *at, size_t n) {
    for (struct thing *t = things; t; t = t->next)
        if (t->kind == kind && t->at <= at && at + n <= t->at + t->n) return t;
    return NULL;
}

static CUresult drop(int kind, const void *at, CUresult unknown) {
    for (struct thing **t = &things; *t; t = &(*t)->next)
        if ((*t)->kind == kind && (*t)->at == at) {
            struct thing *gone = *t;
            *t = gone->next;
            if (kind == DEVICE || kind == PINNED) free(gone->at);
            return OK;
        }
    return unknown;
}

/* Device memory, mapped memory or, for the host's side of a copy, any pinned or registered memory. */
static int is_on_device(const char *at, size_t n) {
    struct thing *mapped = around(PINNED, at, n);
    if (!mapped || !mapped->is_mapped) mapped = around(REGISTRATION, at, n);
    return around(DEVICE, at, n) || (mapped && mapped->is_mapped);
}

static CUresult put(void *stream, char *to, const char *from, int value, size_t n) {
    struct thing *s = find(STREAM, stream);
    if (!s) return HANDLE;
    struct copy *c = malloc(sizeof *c);
    *c = (struct copy){.to = to, .from = from, .value = value, .n = n};
    if (s->is_capturing) {
        struct copy **end = &s->copies;
        while (*end) end = &(*end)->next;
        *end = c;
        return OK;
    }
    if (from) memmove(to, from, n);
    else memset(to, value, n);
    now_ms += 0.25;
    free(c);
    return OK;
}

CUresult cuInit(unsigned flags) { GUARDED(0); return flags ? INVALID : OK; }
CUresult cuDriverGetVersion(int *version) { *version = FAKE_VERSION; return OK; }
CUresult cuDeviceGetCount(int *count) { GUARDED(0); *count = 1; return OK; }
CUresult cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? NO_DEVICE : OK; }
CUresult cuDeviceGetName(char *name, int n, int device) { snprintf(name, n, "Fake GPU %d", device); return OK; }
CUresult cuDeviceTotalMem_v2(size_t *n, int device) { *n = LIMIT; return device ? NO_DEVICE : OK; }
CUresult cuDeviceComputeCapability(int *major, int *minor, int device) { *major = 8, *minor = 7; return device; }
CUresult cuDeviceGetUuid(char *uuid, int device) { memset(uuid, device, 16); return OK; }
CUresult cuDeviceGetUuid_v2(char *uuid, int device) { return cuDeviceGetUuid(uuid, device); }
CUresult cuDeviceGetLuid(char *luid, unsigned *mask, int device) { memset(luid, device, 8), *mask = 0; return OK; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 18 || attribute == 19 || attribute == 99 ? 1 : attribute == 75 ? 8 : attribute == 76 ? 7 : 0;
    return device ? NO_DEVICE : OK;
}

CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    GUARDED(0);
    *context = &context_storage, retained++;
    return device ? NO_DEVICE : OK;
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) { GUARDED(0); return retained-- > 0 && !device ? OK : NO_CONTEXT; }
CUresult cuCtxPushCurrent_v2(void *context) { return context == &context_storage && ++depth < DEPTH ? OK : INVALID; }
CUresult cuCtxPopCurrent_v2(void **context) { *context = &context_storage; return depth-- > 0 ? OK : NO_CONTEXT; }
CUresult cuCtxSetCurrent(void *context) { depth = context != NULL; return OK; }
CUresult cuCtxGetCurrent(void **context) { *context = depth ? &context_storage : NULL; return OK; }
CUresult cuCtxGetDevice(int *device) { GUARDED(1); *device = 0; return OK; }
CUresult cuCtxGetApiVersion(void *context, unsigned *version) { *version = 3020; return context ? OK : NO_CONTEXT; }
CUresult cuCtxSynchronize(void) { GUARDED(1); return OK; }

CUresult cuGetErrorString(CUresult code, const char **text) {
    static const struct { int code; const char *text; } texts[] = {
        {0, "no error"}, {1, "invalid argument"}, {2, "out of memory"}, {100, "no CUDA-capable device is detected"},
        {101, "invalid device ordinal"}, {201, "invalid device context"}, {400, "invalid resource handle"},
        {600, "device not ready"}, {700, "an illegal memory access was encountered"},
        {712, "part or all of the requested memory range is already mapped"},
        {713, "pointer does not correspond to a registered memory region"},
        {900, "operation not permitted when stream is capturing"}, {719, "unspecified launch failure"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].code == code) { *text = texts[i].text; return OK; }
    *text = "unknown error";
    return OK;
}
CUresult cuGetErrorName(CUresult code, const char **name) { (void)code; *name = "CUDA_ERROR"; return OK; }

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    GUARDED(1);
    *total = *available = LIMIT;
    for (struct thing *t = things; t; t = t->next) *available -= t->kind == DEVICE ? t->n : 0;
    return OK;
}
static CUresult allocate(int kind, char **at, size_t n) {
    if (!n) return INVALID;
    if (n > LIMIT) return MEMORY;
    *at = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
    memset(*at, 0xDB, n);
    add(kind, *at, n);
    return OK;
}
CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t n) { GUARDED(1); return allocate(DEVICE, (char **)at, n); }
CUresult cuMemFree_v2(CUdeviceptr at) { GUARDED(1); return drop(DEVICE, (void *)at, INVALID); }
CUresult cuMemHostAlloc(void **at, size_t n, unsigned flags) {
    GUARDED(1);
    if (flags & 4) return INVALID; /* write-combined */
    CUresult status = allocate(PINNED, (char **)at, n);
    if (!status) find(PINNED, *at)->flags = flags, find(PINNED, *at)->is_mapped = (flags & 2) != 0;
    return status;
}
CUresult cuMemFreeHost(void *at) { GUARDED(1); return drop(PINNED, at, INVALID); }
CUresult cuMemHostGetFlags(unsigned *flags, void *at) {
    GUARDED(1);
    struct thing *t = find(PINNED, at);
    *flags = t ? t->flags : 0;
    return t ? OK : INVALID;
}
CUresult cuMemHostRegister_v2(void *at, size_t n, unsigned flags) {
    GUARDED(1);
    for (struct thing *t = things; t; t = t->next)
        if (t->kind == REGISTRATION && t->at < (char *)at + n && (char *)at < t->at + t->n) return REGISTERED;
    add(REGISTRATION, at, n)->is_mapped = (flags & 2) != 0;
    return n ? OK : INVALID;
}
CUresult cuMemHostUnregister(void *at) { GUARDED(1); return drop(REGISTRATION, at, UNKNOWN); }
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *at, unsigned flags) {
    GUARDED(1);
    *device = (CUdeviceptr)at;
    return !flags && !around(DEVICE, at, 0) && is_on_device(at, 0) ? OK : INVALID;
}

CUresult cuStreamCreate(void **stream, unsigned flags) {
    GUARDED(1);
    *stream = add(STREAM, NULL, 0);
    return flags == 1 ? OK : INVALID; /* non-blocking is what the adapters ask for */
}
CUresult cuStreamDestroy_v2(void *stream) { GUARDED(1); return drop(STREAM, stream, HANDLE); }
CUresult cuStreamSynchronize(void *stream) {
    GUARDED(1);
    struct thing *s = find(STREAM, stream);
    return !s ? HANDLE : s->is_capturing ? CAPTURE : OK;
}
CUresult cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    GUARDED(1);
    return find(STREAM, stream) && find(EVENT, event) && !flags ? OK : HANDLE;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, void *stream) {
    GUARDED(1);
    return is_on_device((char *)to, n) ? put(stream, (char *)to, from, 0, n) : INVALID;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, void *stream) {
    GUARDED(1);
    return is_on_device((char *)from, n) ? put(stream, to, (char *)from, 0, n) : INVALID;
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, void *stream) {
    GUARDED(1);
    if (!is_on_device((char *)to, n) || !is_on_device((char *)from, n)) return INVALID;
    return put(stream, (char *)to, (char *)from, 0, n);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t n, void *stream) {
    GUARDED(1);
    return put(stream, (char *)to, (char *)from, 0, n);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, void *stream) {
    GUARDED(1);
    return is_on_device((char *)to, n) ? put(stream, (char *)to, NULL, value, n) : INVALID;
}

CUresult cuEventCreate(void **event, unsigned flags) {
    GUARDED(1);
    struct thing *e = add(EVENT, NULL, 0);
    e->flags = flags;
    *event = e;
    return flags & ~3u ? INVALID : OK;
}
CUresult cuEventDestroy_v2(void *event) { GUARDED(1); return drop(EVENT, event, HANDLE); }
CUresult cuEventRecord(void *event, void *stream) {
    GUARDED(1);
    struct thing *e = find(EVENT, event);
    if (!e || !find(STREAM, stream)) return HANDLE;
    e->time_ms = now_ms;
    return OK;
}
CUresult cuEventSynchronize(void *event) { GUARDED(1); return find(EVENT, event) ? OK : HANDLE; }
CUresult cuEventQuery(void *event) { GUARDED(1); return find(EVENT, event) ? OK : HANDLE; }
static CUresult elapsed(float *ms, void *start, void *end) {
    struct thing *s = find(EVENT, start), *e = find(EVENT, end);
    if (!s || !e || (s->flags | e->flags) & 2) return HANDLE;
    *ms = (float)(e->time_ms - s->time_ms);
    return OK;
}
CUresult cuEventElapsedTime(float *ms, void *start, void *end) { GUARDED(1); return elapsed(ms, start, end); }
CUresult cuEventElapsedTime_v2(float *ms, void *start, void *end) { GUARDED(1); return elapsed(ms, start, end); }

CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
    GUARDED(1);
    struct thing *s = find(STREAM, stream);
    if (!s || s->is_capturing || mode != 1) return !s ? HANDLE : INVALID; /* thread-local */
    s->is_capturing = 1;
    s->copies = NULL;
    return OK;
}
CUresult cuStreamEndCapture(void *stream, void **graph) {
    GUARDED(1);
    struct thing *s = find(STREAM, stream);
    *graph = NULL;
    if (!s || !s->is_capturing) return NO_CAPTURE;
    struct thing *g = add(GRAPH, NULL, 0);
    g->copies = s->copies;
    s->is_capturing = 0;
    *graph = g;
    return OK;
}
CUresult cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    GUARDED(1);
    struct thing *g = find(GRAPH, graph), *x;
    if (!g || flags) return INVALID;
    x = add(EXECUTABLE, NULL, 0);
    x->copies = g->copies;
    *executable = x;
    return OK;
}
CUresult cuGraphDestroy(void *graph) { GUARDED(1); return drop(GRAPH, graph, INVALID); }
CUresult cuGraphExecDestroy(void *executable) { GUARDED(1); return drop(EXECUTABLE, executable, INVALID); }
CUresult cuGraphLaunch(void *executable, void *stream) {
    GUARDED(1);
    struct thing *x = find(EXECUTABLE, executable);
    for (struct copy *c = x ? x->copies : NULL; c; c = c->next) put(stream, c->to, c->from, c->value, c->n);
    return x ? OK : INVALID;
}
