// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * DNS, and the flows of datagrams (datagram.h) that carry it among others.
 *
 * Both are read off the packets of sockets: of what goes out while it is still in the
 * call of whoever sends it (a device may get it later, in anybody's time), of what
 * comes in when the kernel has found the socket it is for. DNS answers are joined to
 * their query by socket, addresses, ports and id.
 *
 * These programs interrupt each other, so what does not fit on the stack is put
 * together in one of several spaces.
 */
#include "datagram.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define AF_PACKET 17

/* Headers that may stand between IPv6 and what it carries (RFC 8200, RFC 4302). */
#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_DESTINATION 60
#define EXTENSIONS_MAX 8

#define DNS_PORT 53
/* Of a message; a longer one is cut and marked (RFC 6891 recommends 1232 for UDP). */
#define DNS_MAX 1232u
#define DNS_HEADER 12u

/* Who asked no longer waits. */
#define ANSWER_SPAN (30 * SECOND)

struct asker {
	u64 start_ns;
	u64 pid;
	u64 at_ns;
};

/* No LRU map: that one drops entries in silence. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow);
	__type(value, struct asker);
} queries SEC(".maps");

/* When room was last made there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} queries_swept SEC(".maps");

#define SPACES 4

struct message_space {
	struct act_record act;
	u8 data[DNS_MAX];
	u64 busy;
};

_Static_assert(__builtin_offsetof(struct message_space, data) == sizeof(struct act_record), "the text stands right behind it");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SPACES);
	__type(key, u32);
	__type(value, struct message_space);
} message_spaces SEC(".maps");

/* The part that is read of the context of programs on a cgroup's packets (linux/bpf.h). */
struct __sk_buff {
	u32 len;
	u32 not_read[3];
	u32 protocol; /* network order */
	u32 not_read_either[14];
	u32 data; /* where what lies in one piece begins and ends; the verifier makes them pointers */
	u32 data_end;
};

_Static_assert(__builtin_offsetof(struct __sk_buff, data) == 76, "as in linux/bpf.h");

struct ports {
	u16 source;
	u16 target;
};

static __always_inline void set_ends(struct packet *packet, u64 *source, u64 *target, struct ports *ports, bool is_out)
{
	__builtin_memcpy(packet->flow.local, is_out ? source : target, 16);
	__builtin_memcpy(packet->flow.remote, is_out ? target : source, 16);
	packet->flow.local_port = bpf_ntohs(is_out ? ports->source : ports->target);
	packet->flow.remote_port = bpf_ntohs(is_out ? ports->target : ports->source);
}

/* Most packets are of connections that carry no DNS: these are known by two looks, without
 * copying anything. False where it takes more to tell. */
static __always_inline bool is_plain_connection(struct __sk_buff *skb, bool is_out)
{
	u8 *data = (u8 *)(u64)skb->data, *end = (u8 *)(u64)skb->data_end;
	struct ports *ports = (void *)(data + 20);

	/* Version 4, a header of five words. */
	if (data + 24 > end || data[0] != 0x45 || data[9] != IPPROTO_TCP)
		return false;
	return (is_out ? ports->target : ports->source) != bpf_htons(DNS_PORT);
}

/* Takes a packet of a socket apart; false where it is neither a datagram nor DNS. */
static __always_inline bool read_packet(struct __sk_buff *skb, struct packet *packet, bool is_out)
{
	u64 source[2] = {}, target[2] = {};
	u8 header[40] = {}, extension[2] = {}, transport, offset = 0;
	struct ports ports = {};
	u32 at;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, header, 20))
			return false;
		packet->family = AF_INET;
		transport = header[9];
		at = (header[0] & 15) * 4;
		__builtin_memcpy(source, header + 12, 4);
		__builtin_memcpy(target, header + 16, 4);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, 0, header, 40))
			return false;
		packet->family = AF_INET6;
		transport = header[6];
		at = 40;
		__builtin_memcpy(source, header + 8, 16);
		__builtin_memcpy(target, header + 24, 16);
		for (int i = 0; i < EXTENSIONS_MAX; i++) {
			if (transport != NEXT_HOP_BY_HOP && transport != NEXT_ROUTING && transport != NEXT_FRAGMENT &&
			    transport != NEXT_AUTHENTICATION && transport != NEXT_DESTINATION)
				break;
			if (bpf_skb_load_bytes(skb, at, extension, 2))
				return false;
			at += transport == NEXT_FRAGMENT       ? 8 :
			      transport == NEXT_AUTHENTICATION ? (extension[1] + 2) * 4 :
								 (extension[1] + 1) * 8;
			transport = extension[0];
		}
	} else {
		return false;
	}
	if ((transport != IPPROTO_UDP && transport != IPPROTO_TCP) || bpf_skb_load_bytes(skb, at, &ports, sizeof(ports)))
		return false;
	set_ends(packet, source, target, &ports, is_out);
	if (transport == IPPROTO_TCP) {
		/* Connections are told by their states. */
		if (packet->flow.remote_port != DNS_PORT || bpf_skb_load_bytes(skb, at + 12, &offset, 1))
			return false;
		at += (offset >> 4) * 4;
	} else {
		at += 8;
	}
	packet->protocol = transport;
	packet->payload = at;
	packet->length = skb->len > at ? skb->len - at : 0;
	packet->flow.socket = bpf_get_socket_cookie(skb);
	return true;
}

static __always_inline struct message_space *take_space(void)
{
	for (u32 i = 0; i < SPACES; i++) {
		u32 index = i;
		struct message_space *space = bpf_map_lookup_elem(&message_spaces, &index);

		if (space && !__sync_lock_test_and_set(&space->busy, 1)) {
			__builtin_memset(&space->act, 0, sizeof(space->act));
			return space;
		}
	}
	return 0;
}

/* Puts the DNS message of a packet behind its act and sends both. */
static __always_inline bool send_message(struct message_space *space, struct __sk_buff *skb, struct packet *packet)
{
	u32 length = packet->length;

	if (length > DNS_MAX) {
		length = DNS_MAX;
		space->act.head.flags |= 1;
	}
	if (length < DNS_HEADER || bpf_skb_load_bytes(skb, packet->payload, space->data, length))
		return false;
	put_flow(&space->act, &packet->flow, packet->family, packet->protocol);
	space->act.text_len[0] = length;
	space->act.head.size = sizeof(space->act) + length;
	send(space, sizeof(space->act) + length, COUNT_DNS_QUERY, false);
	return true;
}

/* Where the message begins: two bytes of length come before it over TCP (RFC 1035
 * section 4.2.2). Sets the key of its query; false where there is none. */
static __always_inline bool find_message(struct __sk_buff *skb, struct packet *packet)
{
	u16 id;

	if (packet->protocol == IPPROTO_TCP) {
		if (packet->length < 2)
			return false;
		packet->payload += 2;
		packet->length -= 2;
	}
	if (packet->length < DNS_HEADER || bpf_skb_load_bytes(skb, packet->payload, &id, sizeof(id)))
		return false;
	packet->flow.id = id | 1u << 16;
	return true;
}

/* Gives up queries that nobody answered. */
static long sweep_query(void *map, struct flow *key, struct asker *asker, u64 *now)
{
	struct flow own = *key;

	if ((s64)(*now - asker->at_ns) >= (s64)ANSWER_SPAN)
		bpf_map_delete_elem(map, &own);
	return 0;
}

static __always_inline void keep_query(struct flow *key, struct asker *asker)
{
	u32 zero = 0;
	u64 *swept;

	if (!bpf_map_update_elem(&queries, key, asker, BPF_ANY))
		return;
	swept = bpf_map_lookup_elem(&queries_swept, &zero);
	if (swept && bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_for_each_map_elem) &&
	    asker->at_ns - *swept > SECOND) {
		*swept = asker->at_ns;
		bpf_for_each_map_elem(&queries, sweep_query, &asker->at_ns, 0);
		if (!bpf_map_update_elem(&queries, key, asker, BPF_ANY))
			return;
	}
	/* Its answer will find nobody who asked. */
	count_lost(COUNT_DNS_QUERY, 1);
}

static __noinline int tell_query(struct __sk_buff *skb, struct packet *packet)
{
	struct message_space *space;
	struct asker asker = {};

	if (!packet || !find_message(skb, packet))
		return 0;
	/* TCP sends again what is not acknowledged, in anybody's time. */
	if (packet->protocol == IPPROTO_TCP && bpf_map_lookup_elem(&queries, &packet->flow))
		return 0;
	if (!is_wanted(COUNT_DNS_QUERY))
		return 0;
	space = take_space();
	if (!space) {
		count_lost(COUNT_DNS_QUERY, 1);
		return 0;
	}
	begin_own(&space->act, ACT_DNS_QUERY);
	asker.pid = space->act.head.pid;
	asker.start_ns = space->act.head.start_ns;
	asker.at_ns = space->act.head.at_ns;
	if (send_message(space, skb, packet))
		keep_query(&packet->flow, &asker);
	space->busy = 0;
	return 0;
}

static __noinline int tell_answer(struct __sk_buff *skb, struct packet *packet)
{
	struct message_space *space;
	struct asker *asker;

	if (!packet || !find_message(skb, packet))
		return 0;
	asker = bpf_map_lookup_elem(&queries, &packet->flow);
	if (!asker || !is_wanted(COUNT_DNS_QUERY))
		return 0;
	space = take_space();
	if (!space) {
		count_lost(COUNT_DNS_QUERY, 1);
		return 0;
	}
	begin_on_stack(&space->act, ACT_DNS_ANSWER, asker->start_ns, asker->pid);
	if (send_message(space, skb, packet))
		bpf_map_delete_elem(&queries, &packet->flow);
	space->busy = 0;
	return 0;
}

static __always_inline bool is_agents_own(void)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	return is_agent(task->group_leader);
}

SEC("cgroup_skb/egress")
int on_packet_out(struct __sk_buff *skb)
{
	struct packet packet = {};

	if (is_plain_connection(skb, true) || !read_packet(skb, &packet, true) || is_agents_own())
		return 1;
	if (packet.protocol == IPPROTO_UDP)
		sends(&packet);
	if (packet.flow.remote_port == DNS_PORT) {
		packet.flow.owner_ns = 0;
		tell_query(skb, &packet);
	}
	return 1;
}

SEC("cgroup_skb/ingress")
int on_packet_in(struct __sk_buff *skb)
{
	struct packet packet = {};

	if (is_plain_connection(skb, false) || !read_packet(skb, &packet, false))
		return 1;
	if (packet.protocol == IPPROTO_UDP)
		receives(&packet);
	if (packet.flow.remote_port == DNS_PORT)
		tell_answer(skb, &packet);
	return 1;
}

/* Sockets of every kind come here: one that is made for IPPROTO_RAW can send datagrams as
 * well, and so do streams below which IPsec packs into UDP. What decides is whether it did. */
SEC("cgroup/sock_release")
int on_socket_end(void *ctx)
{
	struct ended_socket ended = { .socket = bpf_get_socket_cookie(ctx) };
	struct talker *talker;
	struct traffic *sent;
	struct flow flow;
	u64 count;

	talker = bpf_map_lookup_elem(&talkers, &ended.socket);
	if (!talker)
		return 1;
	flow = talker->first;
	count = talker->flows;
	bpf_map_delete_elem(&talkers, &ended.socket);
	if (count > 1 && bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_for_each_map_elem)) {
		bpf_for_each_map_elem(&flows, end_flow, &ended, 0);
	} else {
		sent = bpf_map_lookup_elem(&flows, &flow);
		if (sent) {
			tell_end(&flow, sent);
			bpf_map_delete_elem(&flows, &flow);
			ended.told = 1;
		}
	}
	/* What made room for others is told by nobody. */
	if (ended.told < count)
		count_lost(COUNT_NETWORK_CLOSE, count - ended.told);
	return 1;
}

/* A packet that its sender has put together itself, still in the sender's call. */
static __always_inline bool read_raw_packet(struct sk_buff *skb, struct packet *packet)
{
	/* A number and not a pointer, which the verifier would follow. */
	u64 at = (u64)BPF_CORE_READ(skb, head) + skb->network_header;
	u64 source[2] = {}, target[2] = {};
	struct ports ports = {};
	u8 header[40] = {};
	u32 length;

	if (bpf_probe_read_kernel(header, 20, (void *)at))
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP) && header[9] == IPPROTO_UDP) {
		packet->family = AF_INET;
		__builtin_memcpy(source, header + 12, 4);
		__builtin_memcpy(target, header + 16, 4);
		length = (header[0] & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6) && header[6] == IPPROTO_UDP) {
		packet->family = AF_INET6;
		if (bpf_probe_read_kernel(header, 40, (void *)at))
			return false;
		__builtin_memcpy(source, header + 8, 16);
		__builtin_memcpy(target, header + 24, 16);
		length = 40;
	} else {
		return false;
	}
	if (bpf_probe_read_kernel(&ports, sizeof(ports), (void *)(at + length)))
		return false;
	set_ends(packet, source, target, &ports, true);
	packet->protocol = IPPROTO_UDP;
	packet->is_raw = 1;
	return true;
}

SEC("tp_btf/net_dev_queue")
int on_raw_packet(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct packet packet = {};
	struct sock *sk = skb->sk;

	if (!sk || sk->__sk_common.skc_family != AF_PACKET || !read_raw_packet(skb, &packet) || is_agents_own())
		return 0;
	packet.flow.socket = (u64)sk;
	sends(&packet);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
