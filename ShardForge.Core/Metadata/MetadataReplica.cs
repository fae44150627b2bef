using System.Globalization;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using ShardForge.Common;
using ShardForge.Consensus;

namespace ShardForge.Metadata;

/// <summary>This node's replica of the metadata group: applies its commands, keeps its state on disk, proposes on the leader, and feeds the oracle.</summary>
/// <remarks>
/// <code>
/// shards/&lt;replica&gt;/&lt;generation&gt;/meta   the image (MetadataImage) as of some applied index; missing: the formation record, as of index 0
/// </code>
/// The state is a few KiB, so it is written as a whole: now and then, when the log wants to be cut, and at a clean close. The node log is its durability;
/// the log is released only up to an image that is on the disk (R32).
/// <para>Order of use: open, open a group with it, <see cref="Attach"/> that group. The group is the caller's to dispose, before this one.</para>
/// <para>Threads: safe for concurrent use. The lock is held for memory work and for <see cref="IRaftGroup.TryPropose"/>, which does not block; waiters
/// and events are completed outside of it.</para></remarks>
internal sealed partial class MetadataReplica : IRaftStateMachine, IOracleGroup, IAsyncDisposable
{
    private readonly MetadataReplicaOptions _options;
    private readonly Lock _gate = new();
    private IRaftGroup? _group;
    private RaftStatus? _status;
    private MetadataImage _image;
    private long _generation;

    /// <summary>Term in which this replica serves; 0: it does not. Volatile: read without the lock.</summary>
    private long _servingTerm;

    private MetadataReplica(MetadataReplicaOptions options, MetadataImage image)
    {
        _options = options;
        _image = image;
        _generation = options.Generation;
        _savedIndex = image.AppliedIndex;
        Oracle = new(this, options.TimeProvider);
    }

    /// <summary>The state has changed. Comes in order, on the group's apply path: must be quick.</summary>
    public event Action<ClusterState>? StateChanged;

    /// <summary>This replica began or stopped to serve, or learned of another leader. Must be quick.</summary>
    public event Action? LeadershipChanged;

    public TimestampOracle Oracle { get; }

    public ReplicaId Replica => _options.Replica;

    public MetadataImage Image => Volatile.Read(ref _image);

    public ClusterState State => Image.State;

    public LogIndex RecoveredIndex => Image.AppliedIndex;

    public Timestamp PersistedWindow => Image.OracleWindow;

    /// <summary>The node that leads the group, as far as this replica knows.</summary>
    public string? LeaderNode
    {
        get
        {
            RaftStatus? status = Volatile.Read(ref _status);
            if (status?.Leader is { } leader)
            {
                foreach (RaftMember member in status.Members)
                {
                    if (member.Replica == leader)
                        return member.NodeId;
                }
            }

            return null;
        }
    }

    /// <summary>Whether it is a member of its group, as far as it knows: neither on its way in nor taken out.</summary>
    public bool IsMember => Volatile.Read(ref _status)?.Members.Any(member => member.Replica == Replica) == true;

    /// <summary>Reads the newest image of the generation, and removes the other generations (R33).</summary>
    /// <exception cref="CorruptionException">The image is damaged, or missing although the log before it is gone.</exception>
    public static MetadataReplica Open(MetadataReplicaOptions options)
    {
        string path = ImagePath(options.Directory, options.Generation);
        MetadataImage image;
        if (LoadImage(options.FileSystem, path) is { } stored)
        {
            image = stored;
        }
        else
        {
            if (options.CompactedIndex != default || options.Generation != 1)
            {
                throw new CorruptionException(path, 0,
                    $"the image of replica {options.Replica} is missing, and its log begins behind entry {options.CompactedIndex}. The other replicas of the group have its data.");
            }

            image = MetadataImage.OfFormation(options.Formation);
        }

        MetadataReplica replica = new(options, image);
        replica.RemoveOtherGenerations(options.Generation);
        return replica;
    }

    /// <summary>Sets the group that feeds this replica. It may feed already; this replica serves from here on.</summary>
    public void Attach(IRaftGroup group)
    {
        bool servingChanged;
        lock (_gate)
        {
            _group = group;
            servingChanged = UpdateServingLocked();
        }

        AfterServingChange(servingChanged);
    }

    public bool TryGetServingTerm(out Term term)
    {
        term = new Term(Volatile.Read(ref _servingTerm));
        return term.Value != 0;
    }

    public bool HasLease(Term term) => Volatile.Read(ref _group)!.HasLease(term);

    public async ValueTask<bool> ConfirmLeadershipAsync(Term term, CancellationToken cancellationToken) =>
        await Volatile.Read(ref _group)!.ConfirmLeadershipAsync(term, cancellationToken).ConfigureAwait(false) is not null;

    public async ValueTask ApplyAsync(ReadOnlyMemory<CommittedEntry> entries, CancellationToken cancellationToken)
    {
        List<(Proposal Proposal, ProposalResult Result)>? ended = null;
        ClusterState before, after;
        bool servingChanged;
        lock (_gate)
        {
            MetadataImage image = _image;
            before = image.State;
            foreach (CommittedEntry entry in entries.Span)
                image = ApplyLocked(image, entry, ref ended);
            after = image.State;
            Volatile.Write(ref _image, image);
            servingChanged = UpdateServingLocked();
        }

        EndProposals(ended);
        if (!ReferenceEquals(before, after))
            StateChanged?.Invoke(after);
        AfterServingChange(servingChanged);
        await SaveIfDueAsync().ConfigureAwait(false);
    }

    public void OnStatusChanged(RaftStatus status)
    {
        List<(Proposal Proposal, ProposalResult Result)>? ended = null;
        bool servingChanged, leaderChanged;
        lock (_gate)
        {
            leaderChanged = _status?.Leader != status.Leader;
            Volatile.Write(ref _status, status);
            servingChanged = UpdateServingLocked();
            GiveUpProposalsLocked(status, ref ended);
        }

        EndProposals(ended);
        if (servingChanged)
            AfterServingChange(servingChanged);
        else if (leaderChanged)
            LeadershipChanged?.Invoke();
    }

    public ValueTask<LogIndex> WriteSnapshotAsync(string directory, CancellationToken cancellationToken) => WriteImageAsync(directory);

    public string GetGenerationDirectory(long generation) => GenerationDirectory(_options.Directory, generation);

    public async ValueTask InstallSnapshotAsync(long generation, LogIndex index, CancellationToken cancellationToken)
    {
        await WaitForSavesAsync().ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        string path = ImagePath(_options.Directory, generation);
        MetadataImage image = LoadImage(_options.FileSystem, path) ?? throw new CorruptionException(path, 0, "the snapshot has no image.");
        if (image.AppliedIndex != index)
            throw new CorruptionException(path, 0, $"the snapshot's image is of entry {image.AppliedIndex}, not of {index}.");

        List<(Proposal Proposal, ProposalResult Result)>? ended = null;
        bool servingChanged;
        lock (_gate)
        {
            Invariant.Require(image.AppliedIndex >= _image.AppliedIndex);
            Volatile.Write(ref _image, image);
            _generation = generation;
            _savedIndex = index;
            servingChanged = UpdateServingLocked();
            // Which of the skipped entries were this replica's proposals cannot be told any more.
            foreach (Proposal proposal in _proposals.Values)
                (ended ??= []).Add((proposal, ProposalResult.Unknown));
            _proposals.Clear();
        }

        EndProposals(ended);
        RemoveOtherGenerations(generation);
        StateChanged?.Invoke(image.State);
        AfterServingChange(servingChanged);
    }

    /// <summary>Gives up what waits, and ends once no save runs any more. For a short replay at the next start: <see cref="FlushAsync"/> before.</summary>
    public async ValueTask DisposeAsync()
    {
        List<(Proposal Proposal, ProposalResult Result)>? ended = null;
        lock (_gate)
        {
            _closed = true;
            Volatile.Write(ref _servingTerm, 0);
            foreach (Proposal proposal in _proposals.Values)
                (ended ??= []).Add((proposal, ProposalResult.Unknown));
            _proposals.Clear();
        }

        EndProposals(ended);
        await WaitForSavesAsync().ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private static MetadataImage? LoadImage(IFileSystem fileSystem, string path)
    {
        if (MetadataFile.TryLoad(fileSystem, path, MetadataFile.ImageMagic) is not { } content)
            return null;
        try
        {
            return MetadataImage.Decode(content);
        }
        catch (InvalidDataException error)
        {
            throw new CorruptionException(path, 0, error.Message, error);
        }
    }

    private static string GenerationDirectory(string directory, long generation) =>
        Path.Combine(directory, generation.ToString(CultureInfo.InvariantCulture));

    private static string ImagePath(string directory, long generation) => Path.Combine(GenerationDirectory(directory, generation), MetadataFile.ImageName);

    private MetadataImage ApplyLocked(MetadataImage image, CommittedEntry entry, ref List<(Proposal Proposal, ProposalResult Result)>? ended)
    {
        Invariant.Require(entry.Index == image.AppliedIndex.Next);
        Invariant.Require(entry.Term >= image.AppliedTerm);
        if (entry.Kind == RaftEntryKind.Command)
        {
            try
            {
                MetadataReader reader = new(entry.Payload.Span);
                ReplicaId proposer = new(reader.Number());
                ulong sequence = reader.Number();
                image = image.Apply(MetadataCommand.Read(ref reader), out MetadataOutcome outcome);
                if (proposer == Replica && _proposals.TryGetValue(sequence, out Proposal? own) && own.Term == entry.Term)
                {
                    _proposals.Remove(sequence);
                    (ended ??= []).Add((own, new(ProposalStatus.Applied, outcome)));
                }
            }
            catch (InvalidDataException error)
            {
                throw new CorruptionException($"log of the metadata group, replica {Replica}", entry.Index.Value, error.Message, error);
            }
        }

        LoseProposalsLocked(entry.Index, ref ended);
        return image with { AppliedIndex = entry.Index, AppliedTerm = entry.Term };
    }

    /// <summary>R10: leads, and an entry of its own term is applied.</summary>
    private bool UpdateServingLocked()
    {
        long serving = !_closed && _group is not null && _status is { IsLeader: true, Fault: null } status && _image.AppliedTerm == status.Term ? status.Term.Value : 0;
        if (serving == _servingTerm)
            return false;
        Volatile.Write(ref _servingTerm, serving);
        return true;
    }

    private void AfterServingChange(bool changed)
    {
        if (!changed)
            return;
        Oracle.Prepare();
        LeadershipChanged?.Invoke();
    }
}

/// <summary>What a replica of the metadata group is opened with.</summary>
internal sealed record MetadataReplicaOptions
{
    public required ReplicaId Replica { get; init; }

    /// <summary>The formation record: the state before the first entry.</summary>
    public required ClusterState Formation { get; init; }

    public required IFileSystem FileSystem { get; init; }

    /// <summary>The replica's own directory, <c>shards/&lt;replica&gt;</c>.</summary>
    public required string Directory { get; init; }

    /// <summary>As the replica's log says (R33).</summary>
    public long Generation { get; init; } = 1;

    /// <summary>As the replica's log says: entries up to here are gone.</summary>
    public LogIndex CompactedIndex { get; init; }

    /// <summary>Node name, for threads and log lines.</summary>
    public string NodeId { get; init; } = "node";

    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    public ILogger Logger { get; init; } = NullLogger.Instance;
}
