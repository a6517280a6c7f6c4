/* What the client and the kernel cost: reads each HTTP request whole and answers a constant, on one epoll loop.
 *
 *   echo PORT
 *
 * The header `answer-nbytes` of a request says how long the answer's body is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 1024, HEAD_NBYTES = 8192, READ_NBYTES = 1 << 20, ANSWER_NBYTES = 4 << 20 };

struct connection {
    size_t head_nbytes;  /* of the head so far */
    size_t body_left;    /* of the body, once the head is whole */
    size_t answer_left;  /* still to be sent */
    int in_body;
    size_t answer_nbytes;
    char head[HEAD_NBYTES + 1];
};

static struct connection *connections[CONNECTIONS];
static char scratch[READ_NBYTES];
static char zeros[ANSWER_NBYTES];

static size_t header(const char *head, const char *name)
{
    const char *found = strcasestr(head, name);
    return found ? strtoul(found + strlen(name), NULL, 10) : 0;
}

/* Sends what it can; 0 if all is sent, 1 if it must wait, -1 if the connection is gone. */
static int flush_answer(int fd, struct connection *c)
{
    while (c->answer_left) {
        ssize_t sent = send(fd, zeros, c->answer_left, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? 1 : -1;
        c->answer_left -= (size_t)sent;
    }
    return 0;
}

static int answer(int fd, struct connection *c)
{
    char text[256];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %zu\r\n\r\n",
                          c->answer_nbytes);
    if (send(fd, text, (size_t)length, MSG_NOSIGNAL | (c->answer_nbytes ? MSG_MORE : 0)) != length)
        return -1;
    c->answer_left = c->answer_nbytes;
    c->in_body = 0;
    c->head_nbytes = 0;
    return flush_answer(fd, c);
}

static int take_head(struct connection *c)
{
    c->head[c->head_nbytes] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end)
        return c->head_nbytes == HEAD_NBYTES ? -1 : 0;
    size_t beyond = c->head_nbytes - (size_t)(end + 4 - c->head);
    *end = 0;
    size_t body = header(c->head, "\r\ncontent-length:");
    c->answer_nbytes = header(c->head, "\r\nanswer-nbytes:");
    if (c->answer_nbytes > ANSWER_NBYTES || beyond > body)
        return -1;
    c->body_left = body - beyond;
    c->in_body = 1;
    return 0;
}

/* Reads until there is no more; -1 if the connection is to be closed. */
static int readable(int fd, struct connection *c)
{
    for (;;) {
        char *at = c->in_body ? scratch : c->head + c->head_nbytes;
        size_t room = c->in_body ? (c->body_left < READ_NBYTES ? c->body_left : READ_NBYTES) : HEAD_NBYTES - c->head_nbytes;
        ssize_t got = room ? recv(fd, at, room, 0) : 0;
        if (room && got == 0)
            return -1;
        if (got < 0)
            return errno == EAGAIN ? 0 : -1;
        if (c->in_body) {
            c->body_left -= (size_t)got;
        } else {
            c->head_nbytes += (size_t)got;
            if (take_head(c) < 0)
                return -1;
        }
        if (c->in_body && c->body_left == 0 && answer(fd, c) < 0)
            return -1;
    }
}

static void accept_one(int listener, int poll)
{
    int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (fd >= CONNECTIONS || !(connections[fd] = calloc(1, sizeof(struct connection)))) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

int main(int count, char **words)
{
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (count != 2)
        return 2;
    address.sin_port = htons((unsigned short)atoi(words[1]));
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("echo");
        return 1;
    }
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_one(listener, poll);
                continue;
            }
            struct connection *c = connections[fd];
            if (flush_answer(fd, c) < 0 || readable(fd, c) < 0) {
                close(fd);
                free(c);
                connections[fd] = NULL;
            }
        }
    }
}
