using System.Net;
using System.Text;
using ShardForge.Storage;

namespace ShardForge;

/// <content>What can be checked before anything is touched.</content>
public sealed partial record ShardForgeConfig
{
    internal const int NameBytesMax = 128, ShardCountMax = 4_096, MembersMax = 1_000;
    private static readonly TimeSpan s_operationTimeoutMax = TimeSpan.FromDays(1);

    /// <summary>Throws for what is wrong whatever the directory holds.</summary>
    internal void Validate()
    {
        CheckName(nameof(ClusterName), ClusterName);
        CheckName(nameof(NodeId), NodeId);
        Require(DataDirectory is null || DataDirectory.Trim().Length > 0, nameof(DataDirectory), "is blank; give a path, or null to keep the data in memory");
        Require(Members is not null, nameof(Members), "is null; leave it empty for a node that is alone");
        Require(Join is not null, nameof(Join), "is null; leave it empty for a node that does not join");
        Require(PartitionRule is not null, nameof(PartitionRule), "is null; the default is PartitionRule.WholeKey");
        Require(StorageEngine is not null, nameof(StorageEngine), "is null; the default is StorageEngines.Lsm()");
        Require(TimeProvider is not null, nameof(TimeProvider), "is null; the default is TimeProvider.System");
        Require(Limits is not null, nameof(Limits), "is null; the default is Limits.Default");
        Require(StorageResources is not null, nameof(StorageResources), "is null");
        Require(ShardCount is >= 1 and <= ShardCountMax, nameof(ShardCount), $"is {ShardCount}; allowed are 1 to {ShardCountMax:N0}");
        Require(ReplicationFactor is null or >= 1, nameof(ReplicationFactor), $"is {ReplicationFactor}; it has to be at least 1");
        Require(OperationTimeout > TimeSpan.Zero && OperationTimeout <= s_operationTimeoutMax, nameof(OperationTimeout),
            $"is {OperationTimeout}; it has to be above zero and at most {s_operationTimeoutMax}");
        ValidateLimits();
        ValidateAddresses();
        PeerTls?.Validate();
    }

    /// <summary>Throws for what is wrong with a cluster that is about to be formed by these settings.</summary>
    internal void ValidateForming()
    {
        int members = Math.Max(1, Members.Count);
        Require(ReplicationFactor is null || ReplicationFactor <= members, nameof(ReplicationFactor),
            $"is {ReplicationFactor}, and there are {members} member(s) to hold replicas; allowed are 1 to {members}");
    }

    private static void Require(bool holds, string setting, string what)
    {
        if (!holds)
            throw new ConfigurationException(setting, $"{setting} {what}. Nothing was opened or changed.");
    }

    private static void CheckName(string setting, string? name)
    {
        Require(!string.IsNullOrWhiteSpace(name), setting, "is empty");
        Require(Encoding.UTF8.GetByteCount(name!) <= NameBytesMax, setting, $"has {Encoding.UTF8.GetByteCount(name!)} bytes of UTF-8; at most {NameBytesMax} are allowed");
        foreach (char c in name!)
            Require(!char.IsControl(c), setting, $"has the control character U+{(int)c:X4}");
    }

    private void ValidateLimits()
    {
        RequireLimit(Limits.KeyBytesMax is >= 1 and <= StorageBatchKeyBytes, nameof(Limits.KeyBytesMax), Limits.KeyBytesMax, $"1 to {StorageBatchKeyBytes:N0}");
        RequireLimit(Limits.ValueBytesMax is >= 1 and <= StorageBatchValueBytes, nameof(Limits.ValueBytesMax), Limits.ValueBytesMax, $"1 to {StorageBatchValueBytes:N0}");
        RequireLimit(Limits.TransactionBytesMax is >= 1 and <= TransactionBytesMax, nameof(Limits.TransactionBytesMax), Limits.TransactionBytesMax, $"1 to {TransactionBytesMax:N0}");
        RequireLimit(Limits.ScanPageBytesMax is >= 1024 and <= 16 * 1024 * 1024, nameof(Limits.ScanPageBytesMax), Limits.ScanPageBytesMax, "1 KiB to 16 MiB");
        RequireLimit(Limits.ProposalBytesMax >= 1024 * 1024, nameof(Limits.ProposalBytesMax), Limits.ProposalBytesMax, "1 MiB and up");
        RequireLimit(Limits.PeerRequestsMax >= 1, nameof(Limits.PeerRequestsMax), Limits.PeerRequestsMax, "1 and up");
        RequireLimit(Limits.PeerQueueBytesMax >= 1024 * 1024, nameof(Limits.PeerQueueBytesMax), Limits.PeerQueueBytesMax, "1 MiB and up");
        Require(StorageResources.BlockCacheBytes >= 0, nameof(StorageResources), $"has BlockCacheBytes {StorageResources.BlockCacheBytes:N0}; it cannot be negative");
        Require(StorageResources.WriteBufferBytes > 0, nameof(StorageResources), $"has WriteBufferBytes {StorageResources.WriteBufferBytes:N0}; it has to be above zero");
        Require(StorageResources.BackgroundJobs > 0, nameof(StorageResources), $"has BackgroundJobs {StorageResources.BackgroundJobs}; it has to be above zero");
        Require(StorageResources.CompactionBytesPerSecond >= 0, nameof(StorageResources), $"has CompactionBytesPerSecond {StorageResources.CompactionBytesPerSecond:N0}; it cannot be negative");
    }

    /// <summary>An encoded key may be twice as long as the user's (each zero is escaped) and has a version behind it; it must fit an engine's 64 KiB.</summary>
    private const int StorageBatchKeyBytes = 32_000;

    /// <summary>What an engine takes as a value, less the header of a version.</summary>
    private const int StorageBatchValueBytes = (64 * 1024 * 1024) - 1024;

    private const int TransactionBytesMax = 1024 * 1024 * 1024;

    private static void RequireLimit(bool holds, string limit, long value, string allowed) =>
        Require(holds, nameof(Limits), $"has {limit} {value:N0}; allowed are {allowed}");

    private void ValidateAddresses()
    {
        Require(Members.Count <= MembersMax, nameof(Members), $"has {Members.Count:N0} entries; at most {MembersMax:N0} are allowed");
        HashSet<string> seen = new(StringComparer.Ordinal);
        foreach ((string node, EndPoint address) in Members)
        {
            CheckName(nameof(Members), node);
            CheckAddress(nameof(Members), node, address);
            Require(seen.Add(address.ToString()!), nameof(Members), $"has the address {address} twice");
        }

        foreach (EndPoint address in Join)
            CheckAddress(nameof(Join), "a member", address);
        if (AdvertisedEndPoint is not null)
            CheckAddress(nameof(AdvertisedEndPoint), "this node", AdvertisedEndPoint);

        Require(Members.Count == 0 || Members.ContainsKey(NodeId), nameof(Members), $"does not have this node, '{NodeId}'; it has {string.Join(", ", Members.Keys.Take(8))}");
        Require(Members.Count == 0 || Join.Count == 0, nameof(Join), "and Members are both given; an initial member has Members, a node that joins has Join");
        Require(Members.Count <= 1 || ListenEndPoint is not null, nameof(ListenEndPoint), $"is null, and there are {Members.Count} members; the others have to reach this node");
        Require(Members.Count <= 1 || ListenEndPoint!.Port != 0, nameof(ListenEndPoint), $"has port 0, and there are {Members.Count} members; they need a port that is known before");
        Require(Join.Count == 0 || ListenEndPoint is not null, nameof(ListenEndPoint), "is null; a node that joins has to be reachable");
    }

    private static void CheckAddress(string setting, string whose, EndPoint? address)
    {
        int port = address switch
        {
            IPEndPoint ip => ip.Port,
            DnsEndPoint dns => dns.Port,
            _ => throw new ConfigurationException(setting, $"{setting}: the address of {whose} is {address?.GetType().Name ?? "null"}; allowed are IPEndPoint and DnsEndPoint. Nothing was opened or changed."),
        };
        Require(port != 0, setting, $"gives {whose} the address {address} with port 0; others need one to dial");
    }
}
