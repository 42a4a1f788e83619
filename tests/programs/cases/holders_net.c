/* Frames of a network that come from a program's pages: through a packet socket, and through the memory of an AF_XDP one.
   In a network of its own, so that nobody else's packets are touched. holders_net MODE */
#include "holders.h"
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* A frame has a header, filled up to 16 bytes, and contents. Its protocol is one that is kept for experiments. */
#define HEADER 16
#define CONTENTS 2048
#define FRAMES 256
#define PROTOCOL 0x88b5

static unsigned loopback;

/* A network in which nothing is but the loopback. */
static void enter_network(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK};
    if (unshare(CLONE_NEWNET) != 0)
        refuse("a network namespace");
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    if (any < 0 || ioctl(any, SIOCSIFFLAGS, &request) != 0)
        refuse("the loopback");
    close(any);
    loopback = if_nametoindex("lo");
}

static void write_frame(char *at, size_t number) {
    memset(at, 0, HEADER);
    at[12] = PROTOCOL >> 8;
    at[13] = PROTOCOL & 0xff;
    write_contents(at + HEADER, CONTENTS, number);
}

/* Whether the frame is one of ours, which its number tells; and how many words of it are wrong. */
static size_t wrong_in_frame(const char *at, size_t number) {
    memcpy(piece, at + HEADER, CONTENTS);
    return wrong_in_piece(0, CONTENTS, number);
}

static int packet_socket(void) {
    int fd = socket(AF_PACKET, SOCK_RAW, htons(PROTOCOL)), much = 8 * MIB;
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(PROTOCOL), .sll_ifindex = loopback};
    if (fd < 0)
        refuse("AF_PACKET");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &much, sizeof much);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
        refuse("AF_PACKET");
    return fd;
}

/* Packet sockets copy what they send, whatever they are asked for. */
static void packets(void) {
    int from = packet_socket(), to = packet_socket(), on = 1;
    static char frame[HEADER + CONTENTS];
    char *frames = map_memory(FRAMES * PAGE);
    size_t wrong = 0;
    setsockopt(from, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on);
    for (size_t i = 0; i < FRAMES; i++) {
        write_frame(frames + i * PAGE, i);
        if (send(from, frames + i * PAGE, HEADER + CONTENTS, MSG_ZEROCOPY) != HEADER + CONTENTS)
            fail("send");
    }
    press_long();
    for (size_t i = 0; i < FRAMES;) {
        struct sockaddr_ll sender;
        socklen_t length = sizeof sender;
        if (recvfrom(to, frame, sizeof frame, 0, (struct sockaddr *)&sender, &length) != sizeof frame)
            fail("recvfrom");
        if (sender.sll_pkttype != PACKET_OUTGOING)
            wrong += wrong_in_frame(frame, i++);
    }
    report("packets", FRAMES * CONTENTS, wrong);
}

/* The rings of an AF_XDP socket. */
struct xdp_ring {
    atomic_uint *producer, *consumer;
    char *entries;
};

static int xdp;

static struct xdp_ring open_xdp_ring(int option, off_t offset, const struct xdp_ring_offset *at, size_t entry) {
    struct xdp_ring made;
    unsigned number = FRAMES;
    if (setsockopt(xdp, SOL_XDP, option, &number, sizeof number) != 0)
        refuse("a ring of AF_XDP");
    char *base = mmap(NULL, at->desc + FRAMES * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, xdp, offset);
    if (base == MAP_FAILED)
        fail("a ring of AF_XDP");
    made.producer = (atomic_uint *)(base + at->producer);
    made.consumer = (atomic_uint *)(base + at->consumer);
    made.entries = base + at->desc;
    return made;
}

static int bpf(int command, union bpf_attr *attributes) {
    return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

/* What the loopback receives goes to the socket. */
static void redirect_to_socket(void) {
    unsigned key = 0;
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1};
    int fd = bpf(BPF_MAP_CREATE, &map);
    if (fd < 0)
        refuse("a map of sockets");
    union bpf_attr entry = {.map_fd = fd, .key = (uintptr_t)&key, .value = (uintptr_t)&xdp, .flags = BPF_ANY};
    if (bpf(BPF_MAP_UPDATE_ELEM, &entry) != 0)
        fail("a map of sockets");
    struct bpf_insn redirect[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = offsetof(struct xdp_md, rx_queue_index)},
        {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = fd},
        {.code = 0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_XDP,
        .insns = (uintptr_t)redirect,
        .insn_cnt = sizeof redirect / sizeof *redirect,
        .license = (uintptr_t) "GPL",
    };
    int program = bpf(BPF_PROG_LOAD, &load);
    if (program < 0)
        refuse("an XDP program");
    union bpf_attr link = {0};
    link.link_create.prog_fd = program;
    link.link_create.target_ifindex = loopback;
    link.link_create.attach_type = BPF_XDP;
    link.link_create.flags = XDP_FLAGS_SKB_MODE;
    if (bpf(BPF_LINK_CREATE, &link) < 0)
        refuse("an XDP program on the loopback");
}

/* Half of the memory of the socket is sent, and arrives in the other half. */
static void xdp_memory(void) {
    struct xdp_mmap_offsets at;
    socklen_t length = sizeof at;
    char *memory = map_memory(2 * FRAMES * PAGE);
    write_contents(memory, 2 * FRAMES * PAGE, 1);
    press(PRESSURE);
    xdp = socket(AF_XDP, SOCK_RAW, 0);
    if (xdp < 0)
        refuse("AF_XDP");
    struct xdp_umem_reg area = {.addr = (uintptr_t)memory, .len = 2 * FRAMES * PAGE, .chunk_size = PAGE};
    if (setsockopt(xdp, SOL_XDP, XDP_UMEM_REG, &area, sizeof area) != 0)
        refuse("XDP_UMEM_REG");
    if (getsockopt(xdp, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length) != 0)
        fail("XDP_MMAP_OFFSETS");
    struct xdp_ring fill = open_xdp_ring(XDP_UMEM_FILL_RING, XDP_UMEM_PGOFF_FILL_RING, &at.fr, 8);
    open_xdp_ring(XDP_UMEM_COMPLETION_RING, XDP_UMEM_PGOFF_COMPLETION_RING, &at.cr, 8);
    struct xdp_ring receive = open_xdp_ring(XDP_RX_RING, XDP_PGOFF_RX_RING, &at.rx, sizeof(struct xdp_desc));
    struct xdp_ring transmit = open_xdp_ring(XDP_TX_RING, XDP_PGOFF_TX_RING, &at.tx, sizeof(struct xdp_desc));
    struct sockaddr_xdp where = {.sxdp_family = AF_XDP, .sxdp_ifindex = loopback, .sxdp_flags = XDP_COPY};
    if (bind(xdp, (struct sockaddr *)&where, sizeof where) != 0)
        refuse("AF_XDP on the loopback");
    redirect_to_socket();
    struct xdp_desc *to_send = (struct xdp_desc *)transmit.entries, *arrived = (struct xdp_desc *)receive.entries;
    for (size_t i = 0; i < FRAMES; i++) {
        ((uint64_t *)fill.entries)[i] = i * PAGE;
        write_frame(memory + (FRAMES + i) * PAGE, i);
        to_send[i] = (struct xdp_desc){.addr = (FRAMES + i) * PAGE, .len = HEADER + CONTENTS};
    }
    press_long();
    atomic_store(fill.producer, FRAMES);
    atomic_store(transmit.producer, FRAMES);
    for (int tries = 0; atomic_load(receive.producer) < FRAMES && tries < 1000; tries++) {
        sendto(xdp, NULL, 0, MSG_DONTWAIT, NULL, 0);
        poll(NULL, 0, 1);
    }
    press(PRESSURE);
    size_t number = atomic_load(receive.producer), wrong = 0;
    for (size_t i = 0; i < number; i++)
        wrong += wrong_in_frame(memory + arrived[i].addr, i);
    report("AF_XDP", number * CONTENTS, wrong);
    if (number < FRAMES)
        printf("%zu frames have arrived\n", number);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    enter_network();
    if (strcmp(mode, "packet") == 0)
        packets();
    else if (strcmp(mode, "xdp") == 0)
        xdp_memory();
    else
        return 2;
    return 0;
}
