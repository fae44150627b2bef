using System.Buffers;
using System.Buffers.Binary;
using ShardForge.Common;
using ShardForge.Network;
using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Answers requests to this node's shards that came over a peer link.</summary>
internal sealed class ShardService(string nodeId, ILocalReplicas replicas, IShardLink link, TimeProvider timeProvider) : IPeerRequestHandler
{
    public async ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken)
    {
        ShardRequest shardRequest;
        TimeSpan timeout;
        bool mayRelay;
        try
        {
            shardRequest = ShardFrame.ReadRequest(request.Payload, out mayRelay, out timeout);
        }
        catch (InvalidDataException error)
        {
            return Reply(new ShardResponse { Status = ShardStatus.Faulted, Message = $"the request could not be read: {error.Message}" });
        }

        if (replicas.Find(shardRequest.Shard) is not { } replica)
            return Reply(new ShardResponse { Status = ShardStatus.NotLeader, Message = "no replica here" });

        // Not tied to the link: a write that was proposed goes on when the link breaks, and its retry finds the result.
        using Deadline deadline = new(timeout, timeProvider, cancellationToken);
        try
        {
            ShardResponse response = await replica.ExecuteAsync(shardRequest, deadline.Token).ConfigureAwait(false);
            if (mayRelay && response is { Status: ShardStatus.NotLeader, LeaderNode: { } leader } && !IsSelfOr(request.From, leader))
                response = await RelayAsync(leader, shardRequest, deadline).ConfigureAwait(false) ?? response;
            return Reply(response);
        }
        catch (OperationCanceledException)
        {
            bool isWrite = shardRequest is WriteRequest;
            return Reply(new ShardResponse
            {
                Status = isWrite ? ShardStatus.OutcomeUnknown : ShardStatus.TimedOut,
                Message = $"its time of {timeout.TotalMilliseconds:0} ms is over",
            });
        }
    }

    private bool IsSelfOr(string other, string node) =>
        string.Equals(node, nodeId, StringComparison.Ordinal) || string.Equals(node, other, StringComparison.Ordinal);

    /// <summary>The leader's answer; null: it did not get the request. It is passed on once only.</summary>
    private async ValueTask<ShardResponse?> RelayAsync(string leader, ShardRequest request, Deadline deadline)
    {
        try
        {
            return await link.SendAsync(leader, request, mayRelay: false, deadline.Remaining, deadline.Token).ConfigureAwait(false);
        }
        catch (ShardLinkException error)
        {
            return error.MayHaveLeft && request is WriteRequest
                ? new ShardResponse { Status = ShardStatus.OutcomeUnknown, Message = $"{nodeId} passed it on to {leader}: {error.Message}" }
                : null;
        }
        catch (OverloadedException error)
        {
            return new ShardResponse { Status = ShardStatus.Overloaded, Message = error.Message };
        }
    }

    private static PeerReply Reply(ShardResponse response)
    {
        PeerBuffer buffer = new();
        ShardCodec.Write(buffer, response);
        return new PeerReply(buffer);
    }
}

/// <summary>A shard request as it travels: how long its sender waits, then the request.</summary>
/// <remarks><code>frame | milliseconds 4 | flags 1 (bit 0: may be relayed; the others 0) | request (ShardCodec) |      little-endian; the link carries the checksum</code></remarks>
internal static class ShardFrame
{
    private const int HeadBytes = sizeof(uint) + 1;
    private const byte RelayFlag = 1;
    private static readonly TimeSpan s_timeoutMax = TimeSpan.FromHours(1);

    public static void WriteRequest(IBufferWriter<byte> writer, ShardRequest request, bool mayRelay, TimeSpan timeout)
    {
        TimeSpan bounded = timeout < s_timeoutMax ? timeout : s_timeoutMax;
        Span<byte> head = writer.GetSpan(HeadBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(head, (uint)Math.Max(1, bounded.TotalMilliseconds));
        head[sizeof(uint)] = mayRelay ? RelayFlag : (byte)0;
        writer.Advance(HeadBytes);
        ShardCodec.Write(writer, request);
    }

    public static ShardRequest ReadRequest(ReadOnlyMemory<byte> frame, out bool mayRelay, out TimeSpan timeout)
    {
        if (frame.Length < HeadBytes)
            throw new InvalidDataException($"A shard request of {frame.Length} bytes.");
        uint milliseconds = BinaryPrimitives.ReadUInt32LittleEndian(frame.Span);
        byte flags = frame.Span[sizeof(uint)];
        if ((flags & ~RelayFlag) != 0)
            throw new InvalidDataException($"A shard request with the flags {flags:x2}.");
        mayRelay = flags == RelayFlag;
        timeout = TimeSpan.FromMilliseconds(Math.Clamp(milliseconds, 1u, (uint)s_timeoutMax.TotalMilliseconds));
        return ShardCodec.ReadRequest(frame.Span[HeadBytes..]);
    }
}
