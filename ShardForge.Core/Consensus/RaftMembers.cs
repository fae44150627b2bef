namespace ShardForge.Consensus;

/// <summary>The members of a group by the configuration that counts now, as the local replica sees them. Immutable: another configuration is another object.</summary>
/// <remarks>The local replica need not be one of them: it may not have been added yet (a learner), or be removed already. Then it follows, and never stands
/// for election.</remarks>
internal sealed class RaftMembers
{
    public RaftMembers(ReadOnlyMemory<byte> configuration, IReadOnlyList<RaftMember> members, RaftPeer[] remote, bool hasLocal)
    {
        Configuration = configuration;
        Members = members;
        Remote = remote;
        HasLocal = hasLocal;
    }

    public ReadOnlyMemory<byte> Configuration { get; }

    public IReadOnlyList<RaftMember> Members { get; }

    /// <summary>The members on other nodes.</summary>
    public RaftPeer[] Remote { get; }

    /// <summary>Whether the local replica is a member.</summary>
    public bool HasLocal { get; }

    public bool IsAlone => HasLocal && Remote.Length == 0;

    /// <summary>Whether this is what a log names as its last configuration. By content: where a compaction swallows the entry, its index is another one.</summary>
    public bool Is(ReadOnlyMemory<byte> configuration) => configuration.Equals(Configuration) || configuration.Span.SequenceEqual(Configuration.Span);

    public RaftMember? Find(ReplicaId replica)
    {
        foreach (RaftMember member in Members)
        {
            if (member.Replica == replica)
                return member;
        }

        return null;
    }

    public RaftPeer? FindRemote(ReplicaId replica)
    {
        foreach (RaftPeer peer in Remote)
        {
            if (peer.Member.Replica == replica)
                return peer;
        }

        return null;
    }
}

/// <summary>A change of a group's members: one server at a time (R39).</summary>
internal enum MemberChange
{
    Add,
    Remove,
}
