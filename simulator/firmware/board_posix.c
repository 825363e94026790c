/*
 * A board made of a Linux process: ivma_dock.c on a pty or a serial port, its contacts moved by words on standard
 * input, its pairing and start counter in a file; it says on standard output when outputs or session change. An
 * example of a board's own file, and what the tests run the daemon against.
 *
 *     cc -std=c99 -o dock simulator/firmware/board_posix.c simulator/firmware/ivma_dock.c
 *     ./dock --pty /tmp/dock --serial DK-1 --state /tmp/dock.state
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE 1 /* B115200 */
#define _XOPEN_SOURCE 700
#define IVMA_DOCK_INTERFACE
#include "ivma_dock.c"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { STATE_SIZE = IVMA_RECORD_SIZE + 4, LINE_SIZE = 256, RESET_BY_COMMAND = 1 };

struct board {
    int wire;
    const char *state_path;
    struct ivma_inputs inputs;
    uint8_t outputs;
};

static struct board board;

static const char HELP[] =
    "commands, one a line:\n"
    "  seated|mated|kl15 on|off|unknown   vehicle_mv|supply_mv|tablet_ma|temperature_dc N|unknown\n"
    "  service on|off   reset   status   help   quit\n";

static uint32_t now_ms(void *self) {
    struct timespec now;
    (void)self;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

static size_t read_wire(void *self, uint8_t *bytes, size_t room) {
    ssize_t got = read(((struct board *)self)->wire, bytes, room);
    return got > 0 ? (size_t)got : 0;
}

static int write_wire(void *self, const uint8_t *bytes, size_t count) {
    return write(((struct board *)self)->wire, bytes, count) == (ssize_t)count;
}

/* The latch reaches its place at once, if a tablet is there to be held. */
static void read_inputs(void *self, struct ivma_inputs *inputs) {
    struct board *of = self;
    if (of->outputs & IVMA_LATCH)
        of->inputs.bits |= IVMA_LOCKED;
    else
        of->inputs.bits &= (uint8_t)~IVMA_LOCKED;
    *inputs = of->inputs;
}

static void set_outputs(void *self, uint8_t outputs) {
    ((struct board *)self)->outputs = outputs;
    printf("outputs %u\n", outputs);
    fflush(stdout);
}

/* The state file: a record, and the start counter behind it. 1 if it is there and whole. */
static int read_state(const char *path, uint8_t state[STATE_SIZE]) {
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, state, STATE_SIZE);
    if (fd >= 0) close(fd);
    if (got == STATE_SIZE) return 1;
    memset(state, 0, STATE_SIZE);
    return 0;
}

/* Beside the old one, synced, then put in its place: after a power cut there is the old or the new. */
static int write_state(const char *path, const uint8_t state[STATE_SIZE]) {
    char beside[512];
    int fd, good;
    if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside) return 0;
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) return 0;
    good = write(fd, state, STATE_SIZE) == STATE_SIZE && fsync(fd) == 0;
    return close(fd) == 0 && good && rename(beside, path) == 0;
}

static int load(void *self, uint8_t record[IVMA_RECORD_SIZE]) {
    uint8_t state[STATE_SIZE];
    int there = read_state(((struct board *)self)->state_path, state);
    memcpy(record, state, IVMA_RECORD_SIZE);
    return there;
}

static int save(void *self, const uint8_t record[IVMA_RECORD_SIZE]) {
    uint8_t state[STATE_SIZE];
    read_state(((struct board *)self)->state_path, state);
    memcpy(state, record, IVMA_RECORD_SIZE);
    return write_state(((struct board *)self)->state_path, state);
}

static uint32_t count_start(void *self) {
    uint8_t state[STATE_SIZE], *at = state + IVMA_RECORD_SIZE;
    uint32_t count;
    read_state(((struct board *)self)->state_path, state);
    count = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    if (count == 0xFFFFFFFFu) return 0;
    count++;
    at[0] = (uint8_t)count, at[1] = (uint8_t)(count >> 8), at[2] = (uint8_t)(count >> 16), at[3] = (uint8_t)(count >> 24);
    return write_state(((struct board *)self)->state_path, state) ? count : 0;
}

static const struct ivma_board BOARD = {&board, now_ms, read_wire,  write_wire, read_inputs,
                                        set_outputs, load, save, count_start};

static int set_bit(uint8_t bit, const char *word) {
    board.inputs.known |= bit;
    if (strcmp(word, "on") == 0)
        board.inputs.bits |= bit;
    else if (strcmp(word, "off") == 0)
        board.inputs.bits &= (uint8_t)~bit;
    else if (strcmp(word, "unknown") == 0)
        board.inputs.known &= (uint8_t)~bit;
    else
        return 0;
    return 1;
}

static int number(const char *word, long unknown, long *value) {
    char *end;
    *value = strcmp(word, "unknown") == 0 ? unknown : strtol(word, &end, 10);
    return strcmp(word, "unknown") == 0 || (*word != 0 && *end == 0);
}

/* 1 if the line was understood. */
static int obey(const char *name, const char *word) {
    long value;
    if (strcmp(name, "seated") == 0) return set_bit(IVMA_SEATED, word);
    if (strcmp(name, "mated") == 0) return set_bit(IVMA_MATED, word);
    if (strcmp(name, "kl15") == 0) return set_bit(IVMA_KL15, word);
    if (strcmp(name, "service") == 0) {
        board.inputs.service = strcmp(word, "on") == 0;
        return board.inputs.service || strcmp(word, "off") == 0;
    }
    if (strcmp(name, "vehicle_mv") == 0 && number(word, IVMA_NO_UNSIGNED, &value)) board.inputs.vehicle_mv = (uint16_t)value;
    else if (strcmp(name, "supply_mv") == 0 && number(word, IVMA_NO_UNSIGNED, &value)) board.inputs.supply_mv = (uint16_t)value;
    else if (strcmp(name, "tablet_ma") == 0 && number(word, IVMA_NO_SIGNED, &value)) board.inputs.current_ma = (int16_t)value;
    else if (strcmp(name, "temperature_dc") == 0 && number(word, IVMA_NO_SIGNED, &value)) board.inputs.temperature_dc = (int16_t)value;
    else return 0;
    return 1;
}

static int open_pty(const char *link_path) {
    int slave, master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return -1;
    /* Held open, and never closed: without a slave the master hangs up whenever nobody has the port open. */
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0) return -1;
    unlink(link_path);
    return symlink(ptsname(master), link_path) == 0 ? master : -1;
}

static int raw(int fd) {
    struct termios mode;
    if (tcgetattr(fd, &mode) != 0) return 0;
    mode.c_iflag = mode.c_oflag = mode.c_lflag = 0;
    mode.c_cflag = CS8 | CREAD | CLOCAL;
    cfsetispeed(&mode, B115200);
    cfsetospeed(&mode, B115200);
    return tcsetattr(fd, TCSANOW, &mode) == 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

static void print_status(const struct ivma_dock *dock) {
    printf("executed %lu; dropped", (unsigned long)dock->executions);
    for (int i = 0; i < IVMA_DROPS; i++) printf(" %lu", (unsigned long)dock->dropped[i]);
    printf("\n");
}

/* One line of standard input. 0 at the end or after `quit`. */
static int command(struct ivma_dock *dock, const struct ivma_identity *identity, char *line) {
    char name[32], word[32] = "";
    int words = sscanf(line, "%31s %31s", name, word);
    if (words < 1) return 1;
    if (strcmp(name, "quit") == 0) return 0;
    if (strcmp(name, "status") == 0) {
        print_status(dock);
    } else if (strcmp(name, "reset") == 0) {
        ivma_dock_start(dock, &BOARD, identity, RESET_BY_COMMAND, board.outputs);
        printf("ok\n");
    } else {
        printf("%s", strcmp(name, "help") != 0 && obey(name, word) ? "ok\n" : HELP);
    }
    fflush(stdout);
    return 1;
}

static int play(struct ivma_dock *dock, const struct ivma_identity *identity) {
    char line[LINE_SIZE];
    size_t fill = 0;
    int session = 0;
    struct pollfd fds[2] = {{board.wire, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (;;) {
        ivma_dock_poll(dock);
        if (session != dock->current.open) {
            session = dock->current.open;
            printf("session %s\n", session ? "open" : "ended");
            fflush(stdout);
        }
        if (poll(fds, 2, (int)ivma_dock_idle_ms(dock)) < 0 && errno != EINTR) return 2;
        if (fds[0].revents & (POLLERR | POLLNVAL)) return 0;
        if (fds[1].revents) {
            ssize_t got = read(STDIN_FILENO, line + fill, sizeof line - 1 - fill);
            char *end;
            if (got <= 0) {
                fds[1].fd = -1; /* no more commands: the dock plays on */
                continue;
            }
            fill += (size_t)got;
            line[fill] = 0;
            while ((end = strchr(line, '\n')) != NULL) {
                *end = 0;
                if (!command(dock, identity, line)) return 0;
                fill -= (size_t)(end + 1 - line);
                memmove(line, end + 1, fill + 1);
            }
            if (fill == sizeof line - 1) fill = 0;
        }
    }
}

int main(int count, char **words) {
    static struct ivma_dock dock;
    static struct ivma_identity identity = {{0}, 1, 0, "Reference dock in C"};
    const char *pty = NULL, *port = NULL;
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(words[i], "--pty") == 0) pty = words[i + 1];
        if (strcmp(words[i], "--port") == 0) port = words[i + 1];
        if (strcmp(words[i], "--state") == 0) board.state_path = words[i + 1];
        if (strcmp(words[i], "--serial") == 0)
            memcpy(identity.serial, words[i + 1], strlen(words[i + 1]) < 12 ? strlen(words[i + 1]) : 12);
    }
    if (board.state_path == NULL || identity.serial[0] == 0 || (pty == NULL) == (port == NULL)) {
        fprintf(stderr, "usage: %s (--pty LINK | --port TTY) --serial SERIAL --state FILE\n", words[0]);
        return 2;
    }
    board.wire = pty != NULL ? open_pty(pty) : open(port, O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (board.wire < 0 || !raw(board.wire)) {
        perror(pty != NULL ? pty : port);
        return 2;
    }
    board.inputs.bits = IVMA_SEATED | IVMA_MATED;
    board.inputs.known = IVMA_SEATED | IVMA_MATED | IVMA_LOCKED | IVMA_KL15;
    board.inputs.vehicle_mv = 12600;
    board.inputs.supply_mv = 12000;
    board.inputs.current_ma = 1500;
    board.inputs.temperature_dc = 235;
    board.outputs = IVMA_SUPPLY | IVMA_HOLD;
    ivma_dock_start(&dock, &BOARD, &identity, 0, board.outputs);
    printf("dock on %s, %s; `help` lists commands\n", pty != NULL ? pty : port, dock.paired ? "paired" : "unpaired");
    fflush(stdout);
    return play(&dock, &identity);
}
