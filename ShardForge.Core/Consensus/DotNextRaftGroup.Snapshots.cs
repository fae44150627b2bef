using System.Buffers;
using System.Collections.Concurrent;
using System.Diagnostics;
using DotNext.Net.Cluster;
using ShardForge.Common;
using ShardForge.Consensus.NodeLog;
using ShardForge.Network;

namespace ShardForge.Consensus;

/// <content>Snapshots: written for a follower whose entries are gone, carried over, installed.</content>
/// <remarks><code>
/// leader    the library reads entries that are compacted ──► PinSnapshotAsync: the apply loop has a copy written, the log behind it stays
///           SendSnapshotAsync: begin, chunks (each answered), install ──► unpinned, removed
/// follower  begin: a new generation's directory; chunks: files, flushed at their end; install: directory flushed, then under the library's lock
///           the log's record that names the generation (the moment it counts, R33), then the state machine opens it, by the apply loop
/// </code>
/// The leader holds one chunk in memory, and sends the next when the follower has written it: the slower of the two disks sets the pace. A link that breaks costs the
/// chunk that was on its way: it is sent again, and the transfer goes on behind it (an install whose answer was lost is asked again, and found to be done); a follower that was opened again has to begin anew.
/// Everything large happens before the library's lock is taken. Each chunk is a sign of life of the leader, so that the follower, which gets no
/// appends meanwhile, keeps still. A follower that already has what a snapshot covers says so, or the library would send it for ever.</remarks>
internal sealed partial class DotNextRaftGroup
{
    /// <summary>How long a chunk, or the install, is tried to be sent again over a link that broke; then the transfer is given up.</summary>
    private static readonly TimeSpan s_resumeLimit = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan s_resumePause = TimeSpan.FromMilliseconds(20);

    /// <summary>In place of the number of a transfer: only a question, before the copy is written.</summary>
    private const long WouldTakeOne = 0;

    private readonly ConcurrentQueue<SnapshotWish> _snapshotWishes = new();
    private readonly HashSet<int> _receivers = [];          // ordinals of members that a snapshot is on its way to: under _gate
    private readonly Dictionary<string, (long Index, long Until)> _pins = new(StringComparer.Ordinal);      // by the copy's directory, or a name: under _gate
    private long _lastTransfer = Stopwatch.GetTimestamp();

    async ValueTask<RaftSnapshot> IRaftLogOwner.PinSnapshotAsync(CancellationToken cancellationToken)
    {
        if (!await IsAnyoneToTakeSnapshotAsync(cancellationToken).ConfigureAwait(false))
            throw new IOException($"No member of shard {Shard} that is behind the log answers; no snapshot is written.");
        return await CopyStateAsync(cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<RaftSnapshot> CopyStateAsync(CancellationToken cancellationToken)
    {
        IReplicaLog log = _log.Log;
        string directory = Path.Combine(_options.TemporaryDirectory, $"snapshot-{LocalReplica.Value}-{Interlocked.Increment(ref _lastTransfer)}");
        SnapshotWish wish = new(directory);
        SetPin(directory, log.CompactedIndex.Value);        // nothing goes until the copy's index is known
        try
        {
            _snapshotWishes.Enqueue(wish);
            _applySignal.Writer.TryWrite(0);
            LogIndex index = await wish.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
            Invariant.Require(index >= log.CompactedIndex && index <= AppliedIndex);
            SetPin(directory, index.Value);
            return new RaftSnapshot
            {
                Index = index,
                Term = log.TermAt(index) ?? throw new InvariantViolatedException($"The log of replica {LocalReplica} has no term for the applied index {index}."),
                Configuration = log.ConfigurationAt(index),
                Directory = directory,
            };
        }
        catch
        {
            wish.TrySetCanceled(CancellationToken.None);
            await RemoveCopyAsync(directory).ConfigureAwait(false);
            throw;
        }
    }

    ValueTask IRaftLogOwner.UnpinSnapshotAsync(RaftSnapshot snapshot) => RemoveCopyAsync(snapshot.Directory);

    /// <summary>Carries a snapshot to a follower. Its time limit is on each step, not on the whole.</summary>
    internal async ValueTask<(Term Term, SnapshotResult Result)> SendSnapshotAsync(RaftPeer peer, Term term, RaftSnapshot snapshot, CancellationToken cancellationToken)
    {
        lock (_gate)
            _receivers.Add(peer.Ordinal);
        try
        {
            return await SendFilesAsync(peer, term, snapshot, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            lock (_gate)
                _receivers.Remove(peer.Ordinal);
        }
    }

    private async ValueTask<(Term Term, SnapshotResult Result)> SendFilesAsync(RaftPeer peer, Term term, RaftSnapshot snapshot, CancellationToken cancellationToken)
    {
        IReadOnlyList<(string Name, long Bytes)> files =
            await _node.SnapshotFiles.RunAsync(disk => SnapshotFiles.List(disk, snapshot.Directory)).ConfigureAwait(false);
        long bytes = files.Sum(static file => file.Bytes);
        long transfer = Interlocked.Increment(ref _lastTransfer);
        (Term, SnapshotResult Result) answer = await AskAsync(RaftMessageKind.SnapshotBegin, WriteHead, 32).ConfigureAwait(false);
        if (answer.Result != SnapshotResult.Accepted)
            return answer;

        uint crc = 0;
        byte[] chunk = ArrayPool<byte>.Shared.Rent(_options.SnapshotChunkBytes);
        try
        {
            foreach ((string name, long length) in files)
            {
                long offset = 0;
                do
                {
                    int count = (int)Math.Min(_options.SnapshotChunkBytes, length - offset);
                    long at = offset;
                    await _node.SnapshotFiles.RunAsync(disk => ReadChunk(disk, Path.Combine(snapshot.Directory, name), chunk.AsSpan(0, count), at)).ConfigureAwait(false);
                    crc = Crc32C.Append(crc, chunk.AsSpan(0, count));
                    bool isLast = offset + count == length;
                    answer = await AskAsync(
                        RaftMessageKind.SnapshotChunk, message => WriteChunk(message, transfer, name, at, chunk.AsSpan(0, count), isLast), count + 64).ConfigureAwait(false);
                    if (answer.Result != SnapshotResult.Accepted)
                        return answer;
                    offset += count;
                }
                while (offset < length);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(chunk);
        }

        answer = await AskAsync(RaftMessageKind.SnapshotInstall, WriteEnd, 64 + snapshot.Configuration.Length).ConfigureAwait(false);
        if (answer.Result == SnapshotResult.Accepted)
            RaftLogMessages.SnapshotSent(_options.Logger, Shard, LocalReplica, snapshot.Index, peer.Member.Replica, peer.Member.NodeId, bytes);
        if (answer.Result != SnapshotResult.Rejected && Volatile.Read(ref _leadership) is { } leadership && leadership.Term == term)
            leadership.SetMatched(peer.Ordinal, snapshot.Index);
        return answer;

        void WriteHead(PeerBuffer message)
        {
            RaftMessage.Write(message, transfer);
            RaftMessage.Write(message, snapshot.Index.Value);
            RaftMessage.Write(message, snapshot.Term.Value);
            RaftMessage.Write(message, bytes);
        }

        void WriteEnd(PeerBuffer message)
        {
            WriteHead(message);
            RaftMessage.Write(message, (uint)files.Count);
            RaftMessage.Write(message, crc);
            message.Write(snapshot.Configuration.Span);
        }

        async ValueTask<(Term, SnapshotResult)> AskAsync(RaftMessageKind kind, Action<PeerBuffer> write, int bodyBytes)
        {
            long begun = Stopwatch.GetTimestamp();
            while (true)
            {
                try
                {
                    return await AskOnceAsync(kind, write, bodyBytes).ConfigureAwait(false);
                }
                catch (MemberUnavailableException) when (kind != RaftMessageKind.SnapshotBegin && Stopwatch.GetElapsedTime(begun) < s_resumeLimit)
                {
                    await Task.Delay(s_resumePause, cancellationToken).ConfigureAwait(false);
                }
            }
        }

        async ValueTask<(Term, SnapshotResult)> AskOnceAsync(RaftMessageKind kind, Action<PeerBuffer> write, int bodyBytes)
        {
            PeerBuffer message = RaftMessage.Create(peer.Header(kind, term), bodyBytes);
            write(message);
            using PeerBuffer reply = await peer.RequestAsync(message, bulk: true, _options.SnapshotProgressTimeout, cancellationToken).ConfigureAwait(false);
            RaftAnswer read = peer.Read(reply, kind, bodyBytes: 1);
            return (read.Term, (SnapshotResult)read.Body.Span[0]);
        }
    }

    /// <summary>
    /// Whether a member that is behind the log answers. Asked before a copy is written, since the library asks for one in every round also for a member
    /// that is down, and does not say for whom.
    /// </summary>
    private async ValueTask<bool> IsAnyoneToTakeSnapshotAsync(CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _leadership) is not { IsOver: false } leadership)
            return false;
        foreach (RaftPeer peer in _view.Remote)
        {
            if (leadership.Matched(peer.Ordinal) > _log.Log.CompactedIndex || IsReceiving(peer))
                continue;
            if (await WouldTakeSnapshotAsync(peer, leadership.Term, cancellationToken).ConfigureAwait(false))
                return true;
        }

        return false;
    }

    private async ValueTask<bool> WouldTakeSnapshotAsync(RaftPeer peer, Term term, CancellationToken cancellationToken)
    {
        PeerBuffer message = RaftMessage.Create(peer.Header(RaftMessageKind.SnapshotBegin, term), 32);
        RaftMessage.Write(message, WouldTakeOne);
        RaftMessage.Write(message, AppliedIndex.Value);
        RaftMessage.Write(message, 0L);
        RaftMessage.Write(message, 0L);
        try
        {
            using PeerBuffer reply = await peer.RequestAsync(message, bulk: true, _node.Patience, cancellationToken).ConfigureAwait(false);
            peer.Read(reply, RaftMessageKind.SnapshotBegin, bodyBytes: 1);
            return true;
        }
        catch (MemberUnavailableException)
        {
            return false;
        }
    }

    private bool IsReceiving(RaftPeer peer)
    {
        lock (_gate)
            return _receivers.Contains(peer.Ordinal);
    }

    private static void WriteChunk(PeerBuffer message, long transfer, string name, long offset, ReadOnlySpan<byte> bytes, bool isLastOfFile)
    {
        RaftMessage.Write(message, transfer);
        RaftMessage.Write(message, offset);
        RaftMessage.Write(message, Crc32C.Compute(bytes));
        message.GetSpan(1)[0] = isLastOfFile ? (byte)1 : (byte)0;
        message.Advance(1);
        RaftMessage.WriteName(message, name);
        message.Write(bytes);
    }

    private static void ReadChunk(IFileSystem disk, string path, Span<byte> target, long offset)
    {
        using IFile file = disk.Open(path, FileOpenMode.Read);
        int read = file.Read(target, offset);
        if (read != target.Length)
            throw new IOException($"{path} ends at {offset + read:N0}; a snapshot does not change while it is sent.");
    }

    /// <summary>Serves one wish for a copy, between two batches of the apply loop.</summary>
    private async ValueTask<bool> TryWriteCopyAsync(CancellationToken cancellationToken)
    {
        if (!_snapshotWishes.TryDequeue(out SnapshotWish? wish))
            return false;
        if (wish.Task.IsCompleted)
            return true;
        try
        {
            wish.TrySetResult(await _stateMachine.WriteSnapshotAsync(wish.Directory, cancellationToken).ConfigureAwait(false));
        }
        catch (Exception error)
        {
            // The follower goes without for now and asks again; a full disk here must not stop the replica.
            wish.TrySetException(error);
        }

        return true;
    }

    private void RefuseWishes()
    {
        while (_snapshotWishes.TryDequeue(out SnapshotWish? wish))
            wish.TrySetCanceled(CancellationToken.None);
    }

    private async ValueTask RemoveCopyAsync(string directory)
    {
        EndPin(directory);
        try
        {
            await _node.SnapshotFiles.RunAsync(disk => disk.DeleteDirectory(directory)).ConfigureAwait(false);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ObjectDisposedException or OverloadedException)
        {
            // The temporary directory is emptied when the node opens.
        }
    }

    private void EndPin(string name)
    {
        lock (_gate)
        {
            // The follower still needs what came behind the snapshot: without a while for that, the next one would have to follow at once.
            long grace = (long)(_node.PatienceMax.TotalSeconds * 10 * Stopwatch.Frequency);
            _pins[name] = (_pins[name].Index, Stopwatch.GetTimestamp() + grace);
        }
    }

    private void SetPin(string directory, long index)
    {
        lock (_gate)
            _pins[directory] = (index, long.MaxValue);
    }

    /// <summary>Behind which index the log stays for followers that a snapshot is, or just was, on its way to.</summary>
    private long PinnedFromLocked()
    {
        long now = Stopwatch.GetTimestamp();
        long lowest = long.MaxValue;
        foreach ((string directory, (long index, long until)) in _pins)
        {
            if (until < now)
                _pins.Remove(directory);        // allowed inside the loop
            else
                lowest = Math.Min(lowest, index);
        }

        return lowest;
    }

    /// <summary>Somebody waits for a copy of the state in a directory.</summary>
    private sealed class SnapshotWish(string directory) : TaskCompletionSource<LogIndex>(TaskCreationOptions.RunContinuationsAsynchronously)
    {
        public string Directory { get; } = directory;
    }
}
