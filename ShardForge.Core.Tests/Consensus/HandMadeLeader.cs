using System.Buffers.Binary;
using System.Text;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Consensus;
using ShardForge.Consensus.NodeLog;
using ShardForge.Network;

namespace ShardForge.Tests.Consensus;

/// <summary>One real follower (replica 1 of three) and, in the place of the others, messages made by hand. Its election timer is hours, so that nothing happens by itself.</summary>
internal sealed class HandMadeLeader : IAsyncDisposable
{
    private const int Follower = 1;
    private readonly DotNextHarness _harness;

    private HandMadeLeader(DotNextHarness harness) => _harness = harness;

    public MemoryReplicaLog Log => _harness.Log(Follower);

    public IRaftGroup Group => _harness.Group(Follower);

    public RecordingStateMachine Machine => _harness.Machine(Follower);

    public IFileSystem Files => _harness.Options.FileSystem;

    public DotNextHarness Harness => _harness;

    public static async Task<HandMadeLeader> CreateAsync(RaftGroupOptions? options = null, RaftNodeOptions? nodeOptions = null)
    {
        nodeOptions ??= DotNextHarness.CreateOptions() with { ElectionTimeoutLower = TimeSpan.FromMinutes(2), ElectionTimeoutUpper = TimeSpan.FromMinutes(5) };
        DotNextHarness harness = await DotNextHarness.CreateAsync(3, options: nodeOptions, start: false);
        await harness.OpenAsync(Follower, options ?? new RaftGroupOptions { IsNew = true });
        return new HandMadeLeader(harness);
    }

    public ValueTask DisposeAsync() => _harness.DisposeAsync();

    /// <summary>Entries of given terms, from <paramref name="previous"/> + 1 on.</summary>
    public async Task<(Term Term, RaftAppendResult Result, LogIndex Last)> AppendAsync(long term, long previous, long previousTerm, long commit, long[] entryTerms, int sender = 0)
    {
        RaftAppendHead head = new() { Previous = new LogIndex(previous), PreviousTerm = new Term(previousTerm), Commit = new LogIndex(commit) };
        ReplicaLogEntry[] entries = [.. entryTerms.Select((entryTerm, i) =>
            new ReplicaLogEntry(new Term(entryTerm), RaftEntryKind.Command, Encoding.UTF8.GetBytes($"{previous + 1 + i}@{entryTerm}")))];
        RaftAnswer answer = await AskAsync(sender, RaftMessage.Append(Header(RaftMessageKind.Append, term, sender), head, entries), RaftMessageKind.Append);
        return (answer.Term, (RaftAppendResult)answer.Body.Span[0], new LogIndex(BinaryPrimitives.ReadInt64LittleEndian(answer.Body.Span[1..])));
    }

    public async Task<(Term Term, bool IsGranted)> AskVoteAsync(long term, long lastIndex, long lastTerm, int sender = 2, RaftMessageKind kind = RaftMessageKind.Vote)
    {
        PeerBuffer message = RaftMessage.Create(Header(kind, term, sender), 16);
        RaftMessage.Write(message, lastIndex);
        RaftMessage.Write(message, lastTerm);
        RaftAnswer answer = await AskAsync(sender, message, kind);
        return (answer.Term, answer.Body.Span[0] == 1);
    }

    public async Task HandOverAsync(long term, int heir, int sender = 0)
    {
        PeerBuffer message = RaftMessage.Create(Header(RaftMessageKind.HandOver, term, sender), 8);
        RaftMessage.Write(message, heir + 1);
        await AskAsync(sender, message, RaftMessageKind.HandOver);
    }

    public async Task<SnapshotResult> BeginSnapshotAsync(long term, long transfer, long index, long indexTerm, int sender = 0)
    {
        PeerBuffer message = RaftMessage.Create(Header(RaftMessageKind.SnapshotBegin, term, sender), 32);
        foreach (long number in (long[])[transfer, index, indexTerm, 0])
            RaftMessage.Write(message, number);
        return (SnapshotResult)(await AskAsync(sender, message, RaftMessageKind.SnapshotBegin)).Body.Span[0];
    }

    public async Task<RaftAnswer> SendChunkAsync(long term, long transfer, string name, long offset, string text, bool isLast = true, uint crcFlip = 0, int sender = 0)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        PeerBuffer message = RaftMessage.Create(Header(RaftMessageKind.SnapshotChunk, term, sender), 64 + bytes.Length);
        RaftMessage.Write(message, transfer);
        RaftMessage.Write(message, offset);
        RaftMessage.Write(message, Crc32C.Compute(bytes) ^ crcFlip);
        message.GetSpan(1)[0] = isLast ? (byte)1 : (byte)0;
        message.Advance(1);
        RaftMessage.WriteName(message, name);
        bytes.CopyTo(message.GetSpan(bytes.Length));
        message.Advance(bytes.Length);
        return await TryAskAsync(sender, message, RaftMessageKind.SnapshotChunk);
    }

    public async Task<RaftAnswer> InstallSnapshotAsync(long term, long transfer, long index, long indexTerm, params string[] contents)
    {
        byte[] configuration = _harness.Configuration.Encode();
        PeerBuffer message = RaftMessage.Create(Header(RaftMessageKind.SnapshotInstall, term, 0), 64 + configuration.Length);
        byte[] all = Encoding.UTF8.GetBytes(string.Concat(contents));
        foreach (long number in (long[])[transfer, index, indexTerm, all.Length])
            RaftMessage.Write(message, number);
        RaftMessage.Write(message, (uint)contents.Length);
        RaftMessage.Write(message, Crc32C.Compute(all));
        configuration.CopyTo(message.GetSpan(configuration.Length));
        message.Advance(configuration.Length);
        return await TryAskAsync(0, message, RaftMessageKind.SnapshotInstall);
    }

    public RaftHeader Header(RaftMessageKind kind, long term, int sender) => new()
    {
        Kind = kind,
        Shard = DotNextHarness.Shard,
        Sender = RaftGroupHarness.IdOf(sender),
        Target = RaftGroupHarness.IdOf(Follower),
        Term = new Term(term),
    };

    public async Task<RaftAnswer> TryAskAsync(int sender, PeerBuffer message, RaftMessageKind kind)
    {
        using PeerBuffer reply = await _harness.Hub.DeliverAsync(DotNextHarness.NodeOf(sender), DotNextHarness.NodeOf(Follower), message);
        RaftAnswer answer = RaftMessage.ReadAnswer(reply.Memory, kind);
        return answer with { Body = answer.Body.ToArray() };
    }

    private async Task<RaftAnswer> AskAsync(int sender, PeerBuffer message, RaftMessageKind kind)
    {
        RaftAnswer answer = await TryAskAsync(sender, message, kind);
        Assert.That(answer.Code, Is.EqualTo(RaftAnswerCode.Ok));
        return answer;
    }
}
