using ShardForge.Consensus;

namespace ShardForge.Tests.Consensus;

public sealed class StateMachineGateTests
{
    [Test]
    public async Task Nothing_is_fed_before_the_group_is_known_and_nothing_is_lost()
    {
        Recorder recorder = new();
        StateMachineGate gate = new(recorder);
        gate.OnStatusChanged(Status(1));
        gate.OnStatusChanged(Status(2));
        Task apply = gate.ApplyAsync(new CommittedEntry[] { new(new(1), new(2), RaftEntryKind.NoOp, default) }, CancellationToken.None).AsTask();
        Assert.That((recorder.Terms.Count, recorder.Applied, apply.IsCompleted), Is.EqualTo((0, 0, false)));

        gate.Open();
        await apply.WaitAsync(TimeSpan.FromSeconds(30));
        gate.OnStatusChanged(Status(3));

        Assert.That(recorder.Terms, Is.EqualTo(new long[] { 2, 3 }), "the latest that was held, then the rest");
        Assert.That(recorder.Applied, Is.EqualTo(1));
    }

    private static RaftStatus Status(long term) => new() { Role = RaftRole.Leader, Term = new Term(term), Members = [] };

    private sealed class Recorder : IRaftStateMachine
    {
        public List<long> Terms { get; } = [];

        public int Applied { get; private set; }

        public LogIndex RecoveredIndex => default;

        public ValueTask ApplyAsync(ReadOnlyMemory<CommittedEntry> entries, CancellationToken cancellationToken)
        {
            Applied += entries.Length;
            return default;
        }

        public void OnStatusChanged(RaftStatus status) => Terms.Add(status.Term.Value);

        public ValueTask<LogIndex> WriteSnapshotAsync(string directory, CancellationToken cancellationToken) => default;

        public string GetGenerationDirectory(long generation) => "";

        public ValueTask InstallSnapshotAsync(long generation, LogIndex index, CancellationToken cancellationToken) => default;
    }
}
