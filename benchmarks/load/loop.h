/* Many connections in one thread: what the load clients and the sink have in common.
 *
 * A connection has lines coming in and octets going out. What a program does with it is in its `struct manner`:
 * functions that are called when something happens. Output is a copy of what is said and, behind it, a block that
 * all connections share (the content of a message), so that nothing is copied per message.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <openssl/ssl.h>

struct connection;

struct manner {
    void (*line)(struct connection *, char *line);                      /* one line, without CRLF */
    size_t (*block)(struct connection *, const char *data, size_t size); /* while `raw`: octets that are used up */
    void (*secured)(struct connection *);                               /* the TLS handshake is done */
    void (*lost)(struct connection *, const char *why);                 /* it is gone; may open another one */
};

struct connection {
    int fd;
    bool raw;      /* input goes to `block`, not in lines */
    bool fresh;    /* of a multi-line text nothing has been read yet */
    bool leaving;  /* we are about to close: the other end's close is no failure */
    bool shaking;  /* in the TLS handshake */
    bool waiting;  /* for room to write */
    SSL *tls;
    char *in;
    size_t in_size, in_room;
    char *out;
    size_t out_size, out_done, out_room;
    const char *shared;
    size_t shared_size;
    const struct manner *manner;
    void *mine; /* the program's own */
};

void loop_start(void);
/* Runs until no connection is left, or nothing has moved (loop_moved) for `patience` seconds: then false. */
bool loop_run(double patience);
void loop_stop(void);  /* have loop_run return */
void loop_moved(void); /* something got done */
void loop_hold(void);  /* from now on nothing has to move */

struct connection *connect_to(int port, const struct manner *manner, void *mine);
void listen_at(int port, const struct manner *manner, void (*opened)(struct connection *));
/* Also wait for the end of standard input: then loop_run returns. */
void watch_input(void);

void say(struct connection *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_shared(struct connection *, const char *data, size_t size);
void secure(struct connection *);
void hang_up(struct connection *, const char *why); /* NULL: in order; calls `lost` */

/* What follows is a text that ends with CRLF.CRLF; `block` hands it to multiline_end, which says how much of it is
 * used up and ends `raw` when it has seen the end. */
void multiline(struct connection *);
size_t multiline_end(struct connection *, const char *data, size_t size);

double now(void);           /* monotonic, in seconds */
double cpu_seconds(void);   /* of this process */
_Noreturn void give_up(const char *what);

#endif
