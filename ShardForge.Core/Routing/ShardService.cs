using System.Buffers;
using System.Buffers.Binary;
using ShardForge.Common;
using ShardForge.Network;
using ShardForge.Replication;

namespace ShardForge.Routing;

/// <summary>Answers requests to this node's shards that came over a peer link.</summary>
internal sealed class ShardService(ILocalReplicas replicas, TimeProvider timeProvider) : IPeerRequestHandler
{
    public async ValueTask<PeerReply> HandleAsync(PeerRequest request, CancellationToken cancellationToken)
    {
        ShardRequest shardRequest;
        TimeSpan timeout;
        try
        {
            shardRequest = ShardFrame.ReadRequest(request.Payload, out timeout);
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
            return Reply(await replica.ExecuteAsync(shardRequest, deadline.Token).ConfigureAwait(false));
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

    private static PeerReply Reply(ShardResponse response)
    {
        PeerBuffer buffer = new();
        ShardCodec.Write(buffer, response);
        return new PeerReply(buffer);
    }
}

/// <summary>A shard request as it travels: how long its sender waits, then the request.</summary>
/// <remarks><code>frame | milliseconds 4 | request (ShardCodec) |      little-endian; the link carries the checksum</code></remarks>
internal static class ShardFrame
{
    private const int HeadBytes = sizeof(uint);
    private static readonly TimeSpan s_timeoutMax = TimeSpan.FromHours(1);

    public static void WriteRequest(IBufferWriter<byte> writer, ShardRequest request, TimeSpan timeout)
    {
        TimeSpan bounded = timeout < s_timeoutMax ? timeout : s_timeoutMax;
        BinaryPrimitives.WriteUInt32LittleEndian(writer.GetSpan(HeadBytes), (uint)Math.Max(1, bounded.TotalMilliseconds));
        writer.Advance(HeadBytes);
        ShardCodec.Write(writer, request);
    }

    public static ShardRequest ReadRequest(ReadOnlyMemory<byte> frame, out TimeSpan timeout)
    {
        if (frame.Length < HeadBytes)
            throw new InvalidDataException($"A shard request of {frame.Length} bytes.");
        uint milliseconds = BinaryPrimitives.ReadUInt32LittleEndian(frame.Span);
        timeout = TimeSpan.FromMilliseconds(Math.Clamp(milliseconds, 1u, (uint)s_timeoutMax.TotalMilliseconds));
        return ShardCodec.ReadRequest(frame.Span[HeadBytes..]);
    }
}
