using System.Buffers.Binary;
using System.Text;
using DotNext.Net.Cluster.Consensus.Raft;
using ShardForge.Common;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <content>Snapshots that come in: begun, filled chunk by chunk, installed. The leader's side and the whole picture: <c>Snapshots</c>.</content>
internal sealed partial class DotNextRaftGroup
{
    private IncomingSnapshot? _incoming;            // the snapshot thread's
    private long _lastGeneration;                   // highest that was begun here: the snapshot thread's

    private async ValueTask<PeerBuffer> OnSnapshotBeginAsync(RaftHeader header, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        (long transfer, LogIndex index, Term term) = ReadSnapshotHead(body);
        if (await FollowAsync(header, index, cancellationToken).ConfigureAwait(false) is { } refusal)
            return refusal;
        if (transfer == WouldTakeOne)
            return RaftMessage.Answer(header.Kind, _log.Log.Term, (byte)SnapshotResult.Accepted);
        await _node.SnapshotFiles.RunAsync(disk =>
        {
            _incoming?.Discard(disk);
            _lastGeneration = Math.Max(_lastGeneration, _log.Log.Generation) + 1;
            _incoming = new IncomingSnapshot(header.Sender, transfer, index, term, _lastGeneration, _stateMachine.GetGenerationDirectory(_lastGeneration));
            _incoming.Prepare(disk);
        }).ConfigureAwait(false);
        return RaftMessage.Answer(header.Kind, _log.Log.Term, (byte)SnapshotResult.Accepted);
    }

    private async ValueTask<PeerBuffer> OnSnapshotChunkAsync(RaftHeader header, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        const int FixedBytes = 23;
        ReadOnlySpan<byte> bytes = body.Span;
        if (bytes.Length < FixedBytes || bytes.Length < FixedBytes + BinaryPrimitives.ReadUInt16LittleEndian(bytes[21..]))
            throw new InvalidDataException($"A snapshot chunk of {bytes.Length} bytes is too short.");
        long transfer = BinaryPrimitives.ReadInt64LittleEndian(bytes);
        long offset = BinaryPrimitives.ReadInt64LittleEndian(bytes[8..]);
        uint crc = BinaryPrimitives.ReadUInt32LittleEndian(bytes[16..]);
        bool isLastOfFile = bytes[20] == 1;
        int nameBytes = BinaryPrimitives.ReadUInt16LittleEndian(bytes[21..]);
        string name = Encoding.UTF8.GetString(bytes.Slice(FixedBytes, nameBytes));
        ReadOnlyMemory<byte> content = body[(FixedBytes + nameBytes)..];
        if (Crc32C.Compute(content.Span) is uint computed && computed != crc)
            throw new InvalidDataException($"A snapshot chunk for {name} at {offset:N0}: CRC-32C stored {crc:x8}, computed {computed:x8}.");

        if (await FollowAsync(header, CommitIndex.Next, cancellationToken).ConfigureAwait(false) is { } refusal)
            return refusal;
        bool isKnown = await _node.SnapshotFiles.RunAsync(disk =>
        {
            if (_incoming is null || !_incoming.Is(header.Sender, transfer))
                return false;
            _incoming.Write(disk, name, offset, content.Span, isLastOfFile);
            return true;
        }).ConfigureAwait(false);
        return RaftMessage.Answer(header.Kind, _log.Log.Term, (byte)(isKnown ? SnapshotResult.Accepted : SnapshotResult.Rejected));
    }

    private async ValueTask<PeerBuffer> OnSnapshotInstallAsync(RaftHeader header, ReadOnlyMemory<byte> body, CancellationToken cancellationToken)
    {
        const int FixedBytes = 40;
        (long transfer, LogIndex index, Term term) = ReadSnapshotHead(body);
        if (body.Length < FixedBytes)
            throw new InvalidDataException($"A snapshot's end of {body.Length} bytes is too short.");
        long stated = BinaryPrimitives.ReadInt64LittleEndian(body.Span[24..]);
        int fileCount = BinaryPrimitives.ReadInt32LittleEndian(body.Span[32..]);
        uint crc = BinaryPrimitives.ReadUInt32LittleEndian(body.Span[36..]);
        byte[] configuration = body[FixedBytes..].ToArray();
        RaftConfiguration.Decode(configuration);
        if (await FollowAsync(header, index, cancellationToken).ConfigureAwait(false) is { } refusal)
            return refusal;

        IncomingSnapshot? staged = await _node.SnapshotFiles.RunAsync(disk =>
        {
            IncomingSnapshot? incoming = _incoming;
            if (incoming is null || !incoming.Is(header.Sender, transfer) || incoming.Index != index || incoming.Term != term)
                return null;
            if (incoming.Bytes != stated || incoming.FileCount != fileCount || incoming.Crc != crc)
            {
                throw new InvalidDataException($"A snapshot of {stated:N0} bytes in {fileCount} files with CRC-32C {crc:x8}; " +
                    $"{incoming.Bytes:N0} bytes in {incoming.FileCount} files with {incoming.Crc:x8} came.");
            }

            incoming.Complete(disk);
            _incoming = null;
            return incoming;
        }).ConfigureAwait(false);
        if (staged is null)
            return RaftMessage.Answer(header.Kind, _log.Log.Term, (byte)SnapshotResult.Rejected);

        RaftSnapshot snapshot = new()
        {
            Index = index,
            Term = term,
            Configuration = configuration,
            Directory = staged.Directory,
            Generation = staged.Generation,
        };
        Result<HeartbeatResult> result = await _core.OnSnapshotAsync(header.Sender, header.Term, snapshot, cancellationToken).ConfigureAwait(false);
        if (result.Value is HeartbeatResult.Replicated or HeartbeatResult.ReplicatedWithLeaderTerm)
        {
            await SwitchMembersAsync(_stopping.Token).ConfigureAwait(false);
            RaftLogMessages.SnapshotInstalled(_options.Logger, Shard, LocalReplica, index, staged.Generation);
            return RaftMessage.Answer(header.Kind, new Term(result.Term), (byte)SnapshotResult.Accepted);
        }

        await _node.SnapshotFiles.RunAsync(staged.Discard).ConfigureAwait(false);
        bool hasAll = new Term(result.Term) <= header.Term && index <= CommitIndex;
        return RaftMessage.Answer(header.Kind, new Term(result.Term), (byte)(hasAll ? SnapshotResult.NotNeeded : SnapshotResult.Rejected));
    }

    /// <summary>Takes the sender for the leader of its term, as an append would. What is answered if it is not, or if it need not send.</summary>
    private async ValueTask<PeerBuffer?> FollowAsync(RaftHeader header, LogIndex index, CancellationToken cancellationToken)
    {
        EndCampaign();
        Result<ReplicationStatus> result = await _core.OnHeartbeatAsync(header.Sender, header.Term, cancellationToken).ConfigureAwait(false);
        Term term = new(result.Term);
        if (term > header.Term)
            return RaftMessage.Answer(header.Kind, term, (byte)SnapshotResult.Rejected);
        NoteLeader(header.Sender, header.Term);
        return index <= CommitIndex ? RaftMessage.Answer(header.Kind, header.Term, (byte)SnapshotResult.NotNeeded) : null;
    }

    private static (long Transfer, LogIndex Index, Term Term) ReadSnapshotHead(ReadOnlyMemory<byte> body)
    {
        ReadOnlySpan<byte> bytes = body.Span;
        if (bytes.Length < 32)
            throw new InvalidDataException($"A snapshot's head of {bytes.Length} bytes; it has 32.");
        return (
            BinaryPrimitives.ReadInt64LittleEndian(bytes),
            new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(bytes[8..])),
            new Term(BinaryPrimitives.ReadInt64LittleEndian(bytes[16..])));
    }

    private Task CloseIncomingSnapshotAsync() => _incoming is null ? Task.CompletedTask : _node.SnapshotFiles.RunAsync(_ => _incoming?.Close());
}
