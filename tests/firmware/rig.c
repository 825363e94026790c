/* A board in memory, for tests through ctypes: wires are buffers, the clock stands until it is set. */
#define IVMA_DOCK_INTERFACE
#include "../../simulator/firmware/ivma_dock.c"

#include <string.h>

struct rig {
    struct ivma_dock dock;
    struct ivma_board board;
    struct ivma_identity identity;
    struct ivma_inputs inputs;
    uint32_t now, starts;
    uint8_t record[IVMA_RECORD_SIZE], stored, broken_flash, full_wire, outputs;
    size_t in_size, in_at, out_size;
    uint8_t in[65536], out[65536];
};

size_t rig_size(void) { return sizeof(struct rig); }
size_t rig_dock_size(void) { return sizeof(struct ivma_dock); }

static uint32_t now_ms(void *self) { return ((struct rig *)self)->now; }

static size_t read_wire(void *self, uint8_t *bytes, size_t room) {
    struct rig *rig = self;
    size_t count = rig->in_size - rig->in_at < room ? rig->in_size - rig->in_at : room;
    memcpy(bytes, rig->in + rig->in_at, count);
    rig->in_at += count;
    return count;
}

static int write_wire(void *self, const uint8_t *bytes, size_t count) {
    struct rig *rig = self;
    if (rig->full_wire || rig->out_size + count > sizeof rig->out) return 0;
    memcpy(rig->out + rig->out_size, bytes, count);
    rig->out_size += count;
    return 1;
}

static void read_inputs(void *self, struct ivma_inputs *inputs) { *inputs = ((struct rig *)self)->inputs; }
static void set_outputs(void *self, uint8_t outputs) { ((struct rig *)self)->outputs = outputs; }

static int load(void *self, uint8_t record[IVMA_RECORD_SIZE]) {
    memcpy(record, ((struct rig *)self)->record, IVMA_RECORD_SIZE);
    return ((struct rig *)self)->stored;
}

static int save(void *self, const uint8_t record[IVMA_RECORD_SIZE]) {
    struct rig *rig = self;
    if (rig->broken_flash) return 0;
    memcpy(rig->record, record, IVMA_RECORD_SIZE);
    rig->stored = 1;
    return 1;
}

static uint32_t count_start(void *self) {
    struct rig *rig = self;
    return rig->broken_flash ? 0 : ++rig->starts;
}

/* `record`: IVMA_RECORD_SIZE bytes, or none for a dock as it leaves the factory. */
void rig_new(struct rig *rig, const uint8_t *serial, const uint8_t *record, uint32_t now, uint8_t outputs) {
    struct ivma_board board = {rig, now_ms, read_wire, write_wire, read_inputs, set_outputs, load, save, count_start};
    memset(rig, 0, sizeof *rig);
    rig->board = board;
    memcpy(rig->identity.serial, serial, IVMA_SERIAL_SIZE);
    rig->identity.firmware_major = 1;
    rig->identity.firmware_minor = 0;
    rig->identity.model = "Reference dock in C";
    if (record != NULL) {
        memcpy(rig->record, record, IVMA_RECORD_SIZE);
        rig->stored = 1;
    }
    rig->inputs.bits = IVMA_SEATED | IVMA_MATED;
    rig->inputs.known = IVMA_SEATED | IVMA_MATED | IVMA_LOCKED | IVMA_KL15;
    rig->inputs.vehicle_mv = 12600;
    rig->inputs.supply_mv = 12000;
    rig->inputs.current_ma = 1500;
    rig->inputs.temperature_dc = 235;
    rig->now = now;
    rig->outputs = outputs;
    ivma_dock_start(&rig->dock, &rig->board, &rig->identity, 0, outputs);
}

void rig_reset(struct rig *rig, uint8_t cause) {
    rig->in_at = rig->in_size = 0;
    ivma_dock_start(&rig->dock, &rig->board, &rig->identity, cause, rig->outputs);
}

/* Polls until all of `bytes` is read. */
void rig_feed(struct rig *rig, uint32_t now, const uint8_t *bytes, size_t count) {
    rig->now = now;
    do {
        size_t part = count < sizeof rig->in ? count : sizeof rig->in;
        if (part > 0) memcpy(rig->in, bytes, part);
        rig->in_at = 0;
        rig->in_size = part;
        do ivma_dock_poll(&rig->dock);
        while (rig->in_at < rig->in_size);
        bytes += part;
        count -= part;
    } while (count > 0);
}

size_t rig_take(struct rig *rig, uint8_t *out) {
    size_t count = rig->out_size;
    memcpy(out, rig->out, count);
    rig->out_size = 0;
    return count;
}

void rig_inputs(struct rig *rig, uint8_t bits, uint8_t known, uint8_t service, uint8_t faults, uint16_t vehicle_mv) {
    rig->inputs.bits = bits;
    rig->inputs.known = known;
    rig->inputs.service = service;
    rig->inputs.faults = faults;
    rig->inputs.vehicle_mv = vehicle_mv;
}

void rig_broken(struct rig *rig, uint8_t flash, uint8_t wire) {
    rig->broken_flash = flash;
    rig->full_wire = wire;
}

uint32_t rig_idle_ms(const struct rig *rig) { return ivma_dock_idle_ms(&rig->dock); }
uint8_t rig_outputs(const struct rig *rig) { return rig->outputs; }
uint32_t rig_executions(const struct rig *rig) { return rig->dock.executions; }
uint32_t rig_dropped(const struct rig *rig, int why) { return rig->dock.dropped[why]; }
int rig_in_session(const struct rig *rig) { return rig->dock.current.open; }
int rig_paired(const struct rig *rig) { return rig->dock.paired; }
/* So that a PROOF comes out with the nonce of the vectors. */
void rig_nonce(struct rig *rig, uint32_t start, uint32_t proof) {
    rig->dock.start_count = start;
    rig->dock.proof_count = proof - 1;
}
