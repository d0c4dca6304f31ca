// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * DNS, and the flows of datagrams that carry it among others.
 *
 * DNS is read off the wire: queries where they are sent, still in the call of whoever
 * asks, answers where they arrive, joined to their query by addresses, ports and id.
 * A flow is told with its first datagram; each packet is taken apart once for both.
 *
 * Answers arrive in interrupts and build their records in a space of their own.
 */
#include "network.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

#define DNS_PORT 53
/* Of a message over UDP; a longer one is cut and marked (RFC 6891 recommends 1232). */
#define DNS_MAX 1232u
#define DNS_HEADER 12u

/* A flow of datagrams that was told, so that only its first one is. */
struct flow {
	u64 local[2];
	u64 remote[2];
	u16 local_port;
	u16 remote_port;
	u32 id; /* of a DNS query; 0 for a flow */
};

/* It is a key, so it must not have bytes that nobody sets. */
_Static_assert(sizeof(struct flow) == 40, "struct flow");

struct asker {
	u64 start_ns;
	u64 pid;
	/* Of a query: a packet passes each device of a stack (a bond, then its port), and
	 * only the first one's is told. */
	u64 packet;
	u64 device;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct flow);
	__type(value, struct asker);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow);
	__type(value, struct asker);
} queries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct record_space);
} answer_scratch SEC(".maps");

/* Where a packet's parts lie. */
struct packet {
	struct flow flow;
	u16 family;
	u16 protocol;
	u32 payload; /* offset of the data from skb->head */
	u32 length;  /* of the data that lies there */
};

static __always_inline bool read_packet(struct sk_buff *skb, struct packet *packet, bool is_out)
{
	/* A number and not a pointer, which the verifier would follow. */
	u64 head = (u64)BPF_CORE_READ(skb, head);
	u32 at = skb->network_header, addresses;
	u16 ports[2], protocol = bpf_ntohs(skb->protocol);
	u64 source[2] = {}, target[2] = {};
	u8 byte = 0, transport = 0;
	u32 linear_end = (u64)BPF_CORE_READ(skb, data) - head + skb->len - skb->data_len;

	if (protocol == ETH_P_IP) {
		bpf_probe_read_kernel(&byte, 1, (void *)(head + at));
		bpf_probe_read_kernel(&transport, 1, (void *)(head + at + 9));
		addresses = at + 12;
		at += (byte & 15) * 4;
		packet->family = AF_INET;
	} else if (protocol == ETH_P_IPV6) {
		bpf_probe_read_kernel(&transport, 1, (void *)(head + at + 6));
		addresses = at + 8;
		at += 40;
		packet->family = AF_INET6;
	} else {
		return false;
	}
	/* TCP is told by its states. */
	if (transport != IPPROTO_UDP)
		return false;
	if (bpf_probe_read_kernel(ports, sizeof(ports), (void *)(head + at)))
		return false;
	packet->flow.local_port = bpf_ntohs(is_out ? ports[0] : ports[1]);
	packet->flow.remote_port = bpf_ntohs(is_out ? ports[1] : ports[0]);
	if (packet->family == AF_INET6) {
		bpf_probe_read_kernel(source, 16, (void *)(head + addresses));
		bpf_probe_read_kernel(target, 16, (void *)(head + addresses + 16));
	} else {
		bpf_probe_read_kernel(source, 4, (void *)(head + addresses));
		bpf_probe_read_kernel(target, 4, (void *)(head + addresses + 4));
	}
	at += 8;
	packet->protocol = transport;
	packet->payload = at;
	packet->length = linear_end > at ? linear_end - at : 0;
	__builtin_memcpy(packet->flow.local, is_out ? source : target, 16);
	__builtin_memcpy(packet->flow.remote, is_out ? target : source, 16);
	return true;
}

static __always_inline void put_flow(struct act_record *act, struct packet *packet)
{
	act->numbers[0] = packet->family | (u64)packet->protocol << 16;
	act->numbers[1] = packet->flow.local_port | (u64)packet->flow.remote_port << 32;
	act->numbers[2] = packet->flow.local[0];
	act->numbers[3] = packet->flow.local[1];
	act->numbers[4] = packet->flow.remote[0];
	act->numbers[5] = packet->flow.remote[1];
}

/* Appends a DNS message as text 0. False where there is none. */
static __always_inline bool put_message(struct record_space *s, struct sk_buff *skb, struct packet *packet)
{
	u32 at = packet->payload, length = packet->length;

	if (length < DNS_HEADER)
		return false;
	if (length > DNS_MAX) {
		length = DNS_MAX;
		s->act.head.flags |= 1;
	}
	if (bpf_probe_read_kernel(s->data, length, (void *)((u64)BPF_CORE_READ(skb, head) + at)))
		return false;
	s->act.text_len[0] = length;
	s->used = length;
	return true;
}

static __always_inline void tell_query(struct sk_buff *skb, struct packet *packet)
{
	struct record_space *s = begin_act(ACT_DNS_QUERY, COUNT_DNS_QUERY);
	struct asker asker = { .packet = (u64)skb, .device = (u64)skb->dev }, *known;
	u16 id;

	if (!s || !put_message(s, skb, packet))
		return;
	put_flow(&s->act, packet);
	asker.pid = s->act.head.pid;
	asker.start_ns = s->act.head.start_ns;
	__builtin_memcpy(&id, s->data, sizeof(id));
	packet->flow.id = id | 1u << 16;
	known = bpf_map_lookup_elem(&queries, &packet->flow);
	if (!known || known->packet != asker.packet || known->device == asker.device) {
		bpf_map_update_elem(&queries, &packet->flow, &asker, BPF_ANY);
		end_act(s, COUNT_DNS_QUERY, false);
	}
	/* The flow is that of all queries of the socket. */
	packet->flow.id = 0;
}

static __always_inline void tell_flow(struct packet *packet)
{
	struct record_space *s;
	struct asker asker = {};

	if (bpf_map_lookup_elem(&flows, &packet->flow))
		return;
	s = begin_act(ACT_CONNECT, COUNT_NETWORK_CONNECT);
	if (!s)
		return;
	put_flow(&s->act, packet);
	s->act.numbers[6] = s->act.head.at_ns;
	asker.pid = s->act.head.pid;
	asker.start_ns = s->act.head.start_ns;
	/* The answers to it belong to it. */
	bpf_map_update_elem(&flows, &packet->flow, &asker, BPF_ANY);
	end_act(s, COUNT_NETWORK_CONNECT, false);
}

/* Still in the call of whoever sends, for nearly all that is sent. */
SEC("tp_btf/net_dev_queue")
int on_packet_out(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct packet packet = {};

	/* What is only passed on is nobody's here. */
	if (!skb->sk || !read_packet(skb, &packet, true))
		return 0;
	if (packet.flow.remote_port == DNS_PORT)
		tell_query(skb, &packet);
	tell_flow(&packet);
	return 0;
}

/* The part that is read of the context of programs on a cgroup's packets (linux/bpf.h). */
struct __sk_buff {
	u32 len;
	u32 not_read[21];
	u32 family;
	u32 remote_ip4; /* addresses and the remote port in network order */
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
};

/* A query over TCP. Its bytes lie in pages that tracepoints can't read. */
SEC("cgroup_skb/egress")
int on_tcp_query(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct record_space *s;
	u32 at = 40, length;
	u8 byte = 0;

	if (bpf_ntohl(skb->remote_port) != DNS_PORT)
		return 1;
	packet.family = skb->family;
	packet.protocol = IPPROTO_TCP;
	packet.flow.local_port = skb->local_port;
	packet.flow.remote_port = DNS_PORT;
	if (packet.family == AF_INET) {
		bpf_skb_load_bytes(skb, 9, &byte, 1);
		if (byte != IPPROTO_TCP)
			return 1;
		bpf_skb_load_bytes(skb, 0, &byte, 1);
		at = (byte & 15) * 4;
		packet.flow.local[0] = skb->local_ip4;
		packet.flow.remote[0] = skb->remote_ip4;
	} else {
		bpf_skb_load_bytes(skb, 6, &byte, 1);
		if (byte != IPPROTO_TCP)
			return 1;
		packet.flow.local[0] = skb->local_ip6[0] | (u64)skb->local_ip6[1] << 32;
		packet.flow.local[1] = skb->local_ip6[2] | (u64)skb->local_ip6[3] << 32;
		packet.flow.remote[0] = skb->remote_ip6[0] | (u64)skb->remote_ip6[1] << 32;
		packet.flow.remote[1] = skb->remote_ip6[2] | (u64)skb->remote_ip6[3] << 32;
	}
	bpf_skb_load_bytes(skb, at + 12, &byte, 1);
	/* Two bytes of length come before the message (RFC 1035 section 4.2.2). */
	at += (byte >> 4) * 4 + 2;
	length = skb->len;
	if (length < at + DNS_HEADER)
		return 1;
	length -= at;
	s = begin_act(ACT_DNS_QUERY, COUNT_DNS_QUERY);
	if (!s)
		return 1;
	if (length > DNS_MAX) {
		length = DNS_MAX;
		s->act.head.flags |= 1;
	}
	if (length < DNS_HEADER || bpf_skb_load_bytes(skb, at, s->data, length))
		return 1;
	s->act.text_len[0] = length;
	s->used = length;
	put_flow(&s->act, &packet);
	end_act(s, COUNT_DNS_QUERY, false);
	return 1;
}

SEC("tp_btf/netif_receive_skb")
int on_packet_in(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct packet packet = {};
	struct record_space *s;
	struct asker *asker, *known, asked = {};
	u32 zero = 0, size;
	u16 id;

	if (!read_packet(skb, &packet, false))
		return 0;
	if (!bpf_map_lookup_elem(&flows, &packet.flow)) {
		/* So that the answer is not told as a flow of its own. Who sends it is not
		 * known here; pid 0 says so. */
		bpf_map_update_elem(&flows, &packet.flow, &asked, BPF_NOEXIST);
	}
	if (packet.flow.remote_port != DNS_PORT)
		return 0;
	s = bpf_map_lookup_elem(&answer_scratch, &zero);
	if (!s || !is_wanted(COUNT_DNS_QUERY))
		return 0;
	__builtin_memset(&s->act, 0, sizeof(s->act));
	begin_on_stack(&s->act, ACT_DNS_ANSWER, 0, 0);
	s->used = 0;
	if (!put_message(s, skb, &packet))
		return 0;
	__builtin_memcpy(&id, s->data, sizeof(id));
	packet.flow.id = id | 1u << 16;
	known = bpf_map_lookup_elem(&queries, &packet.flow);
	if (!known)
		return 0;
	asker = known;
	s->act.head.pid = asker->pid;
	s->act.head.start_ns = asker->start_ns;
	bpf_map_delete_elem(&queries, &packet.flow);
	packet.flow.id = 0;
	put_flow(&s->act, &packet);
	size = s->used;
	if (size > DNS_MAX)
		return 0;
	size += sizeof(struct act_record);
	s->act.head.size = size;
	send(&s->act, size, COUNT_DNS_QUERY, false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
