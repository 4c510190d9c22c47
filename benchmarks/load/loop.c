/* The loop under the load clients and the sink; loop.h says what it promises. */
#define _GNU_SOURCE
#include "loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, READ_AT_LEAST = 4096, READ_RAW = 65536, BACKLOG = 4096 };

static int poller = -1;
static long living;
static bool stopped;
static double last_move, patience;
static SSL_CTX *context;
static int listener = -1;
static const struct manner *listener_manner;
static void (*listener_opened)(struct connection *);
/* Connections that were closed while events of the same wait may still name them. */
static struct connection *grave[EVENTS];
static int buried;

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void give_up(const char *what)
{
    perror(what);
    exit(2);
}

void loop_start(void)
{
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        give_up("epoll_create1");
    /* Full handshakes only: a session that is taken up again would measure something else. */
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                  | SSL_MODE_RELEASE_BUFFERS);
    loop_moved();
}

void loop_moved(void) { last_move = now(); }
void loop_stop(void) { stopped = true; }
void loop_hold(void) { patience = 0; }

static void attend(struct connection *c, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (c->waiting ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, how, c->fd, &event))
        give_up("epoll_ctl");
}

static struct connection *adopt(int fd, const struct manner *manner, void *mine)
{
    struct connection *c = calloc(1, sizeof *c);
    int on = 1;
    if (!c)
        give_up("calloc");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd;
    c->manner = manner;
    c->mine = mine;
    attend(c, EPOLL_CTL_ADD);
    living++;
    return c;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

struct connection *connect_to(int port, const struct manner *manner, void *mine)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        give_up("connect");
    return adopt(fd, manner, mine);
}

void listen_at(int port, const struct manner *manner, void (*opened)(struct connection *))
{
    struct sockaddr_in address = loopback(port);
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, BACKLOG))
        give_up("listen");
    listener_manner = manner;
    listener_opened = opened;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    living++;
}

void watch_input(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        give_up("standard input (has to be a pipe)");
}

void hang_up(struct connection *c, const char *why)
{
    if (c->fd < 0)
        return;
    SSL_free(c->tls);
    close(c->fd);
    free(c->in);
    free(c->out);
    c->fd = -1;
    living--;
    grave[buried++] = c;
    c->manner->lost(c, why);
}

/* Gives what one write took; 0 when there is no room, -1 on failure. */
static ssize_t put(struct connection *c)
{
    struct iovec parts[2];
    int count = 0;
    if (c->out_done < c->out_size)
        parts[count++] = (struct iovec){c->out + c->out_done, c->out_size - c->out_done};
    if (c->shared_size)
        parts[count++] = (struct iovec){(char *)c->shared, c->shared_size};
    if (c->tls) {
        int written = SSL_write(c->tls, parts[0].iov_base, parts[0].iov_len > 16384 ? 16384 : (int)parts[0].iov_len);
        if (written > 0)
            return written;
        int error = SSL_get_error(c->tls, written);
        return error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ ? 0 : -1;
    }
    ssize_t written = writev(c->fd, parts, count);
    return written < 0 && (errno == EAGAIN || errno == ENOTCONN) ? 0 : written;
}

static void drain(struct connection *c)
{
    while (c->fd >= 0 && (c->out_done < c->out_size || c->shared_size)) {
        ssize_t written = put(c);
        if (written < 0) {
            hang_up(c, strerror(errno));
            return;
        }
        if (!written) {
            if (!c->waiting) {
                c->waiting = true;
                attend(c, EPOLL_CTL_MOD);
            }
            return;
        }
        size_t said = c->out_size - c->out_done;
        if ((size_t)written < said)
            said = written;
        c->out_done += said;
        c->shared += written - said;
        c->shared_size -= written - said;
    }
    if (c->fd < 0)
        return;
    c->out_size = c->out_done = 0;
    if (c->waiting) {
        c->waiting = false;
        attend(c, EPOLL_CTL_MOD);
    }
}

void say(struct connection *c, const char *format, ...)
{
    for (;;) {
        size_t room = c->out_room - c->out_size;
        va_list arguments;
        va_start(arguments, format);
        size_t size = vsnprintf(c->out ? c->out + c->out_size : NULL, room, format, arguments);
        va_end(arguments);
        if (size < room) {
            c->out_size += size;
            return;
        }
        c->out_room = c->out_size + size + 256;
        c->out = realloc(c->out, c->out_room);
    }
}

void say_shared(struct connection *c, const char *data, size_t size)
{
    c->shared = data;
    c->shared_size = size;
}

static void shake(struct connection *c)
{
    int result = SSL_do_handshake(c->tls);
    if (result == 1) {
        c->shaking = false;
        c->manner->secured(c);
        drain(c);
        return;
    }
    int error = SSL_get_error(c->tls, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        hang_up(c, "TLS handshake failed");
}

void multiline(struct connection *c)
{
    c->raw = c->fresh = true;
}

size_t multiline_end(struct connection *c, const char *data, size_t size)
{
    static const char end[] = "\r\n.\r\n";
    const size_t length = sizeof end - 1;
    if (c->fresh) {
        /* The CRLF of the line before counts: the text may be empty. */
        if (size < 3)
            return 0;
        c->fresh = false;
        if (!memcmp(data, end + 2, 3)) {
            c->raw = false;
            return 3;
        }
    }
    const char *found = memmem(data, size, end, length);
    if (found) {
        c->raw = false;
        return found + length - data;
    }
    return size < length ? 0 : size - (length - 1);
}

void secure(struct connection *c)
{
    c->tls = SSL_new(context);
    SSL_set_fd(c->tls, c->fd);
    SSL_set_connect_state(c->tls);
    c->shaking = true;
}

/* Hands on what has come; what is left over waits at the beginning of the buffer. */
static void digest(struct connection *c)
{
    size_t used = 0;
    while (c->fd >= 0 && used < c->in_size && !c->shaking) {
        if (c->raw) {
            size_t taken = c->manner->block(c, c->in + used, c->in_size - used);
            if (!taken)
                break;
            used += taken;
            continue;
        }
        char *line = c->in + used, *end = memchr(line, '\n', c->in_size - used);
        if (!end)
            break;
        used = end + 1 - c->in;
        *(end > line && end[-1] == '\r' ? end - 1 : end) = 0;
        c->manner->line(c, line);
    }
    if (c->fd < 0)
        return;
    c->in_size -= used;
    if (c->in_size)
        memmove(c->in, c->in + used, c->in_size);
    /* An idle session shall cost this end as little as can be. */
    else if (c->in_room > READ_RAW) {
        free(c->in);
        c->in = NULL;
        c->in_room = 0;
    }
    drain(c);
}

static void receive(struct connection *c)
{
    while (c->fd >= 0) {
        if (c->shaking) {
            shake(c);
            if (c->fd < 0 || c->shaking)
                return;
        }
        size_t least = c->raw ? READ_RAW : READ_AT_LEAST;
        if (c->in_room - c->in_size < least) {
            c->in_room = 2 * c->in_room > c->in_size + least ? 2 * c->in_room : c->in_size + least;
            c->in = realloc(c->in, c->in_room);
        }
        size_t room = c->in_room - c->in_size;
        ssize_t got = c->tls ? SSL_read(c->tls, c->in + c->in_size, (int)room)
                             : read(c->fd, c->in + c->in_size, room);
        if (got <= 0) {
            if (c->tls ? SSL_get_error(c->tls, (int)got) == SSL_ERROR_WANT_READ : got < 0 && errno == EAGAIN)
                return;
            hang_up(c, c->leaving ? NULL : got < 0 ? strerror(errno) : "the server has closed");
            return;
        }
        c->in_size += got;
        digest(c);
        if (c->fd >= 0 && !c->shaking && !c->tls && (size_t)got < room)
            return;
    }
}

static void welcome(void)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = adopt(fd, listener_manner, NULL);
        listener_opened(c);
        drain(c);
    }
}

bool loop_run(double seconds)
{
    struct epoll_event events[EVENTS];
    patience = seconds;
    loop_moved();
    while (living && !stopped) {
        int count = epoll_wait(poller, events, EVENTS / 2, 1000);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                stopped = true;
            else if ((void *)c == (void *)&listener)
                welcome();
            else if (c->fd >= 0) {
                if (events[i].events & EPOLLOUT)
                    drain(c);
                if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                    receive(c);
            }
        }
        while (buried)
            free(grave[--buried]);
        if (patience > 0 && now() - last_move > patience)
            return false;
    }
    return true;
}
