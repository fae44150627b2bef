using System.Diagnostics;
using System.Net;
using Microsoft.Extensions.Logging;
using ShardForge.Network;

namespace ShardForge.Metadata.Formation;

/// <summary>Brings an empty node into a formed cluster, as a node without replicas: asks the given addresses in turn until one lets it in. Placement gives it some later.</summary>
internal static class ClusterJoin
{
    private static readonly TimeSpan s_askTimeout = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan s_pauseMin = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan s_pauseMax = TimeSpan.FromMilliseconds(500);

    /// <summary>A node that was just killed may seem connected for a while, so that its replacement is refused at first.</summary>
    private static readonly TimeSpan s_takenPatience = TimeSpan.FromSeconds(5);

    /// <returns>The cluster's state with the node in it.</returns>
    /// <exception cref="ConfigurationException">Refused: another cluster's name, a node id that is taken, a build that is too old.</exception>
    public static async Task<ClusterState> RunAsync(
        JoinRequest request, IReadOnlyList<EndPoint> addresses, IMetadataLink link, ILogger logger, CancellationToken cancellationToken)
    {
        byte[] question = request.Encode();
        long begun = Stopwatch.GetTimestamp();
        TimeSpan pause = s_pauseMin;
        for (int i = 0; ; i = (i + 1) % addresses.Count)
        {
            bool mayBeTaken = Stopwatch.GetElapsedTime(begun) < s_takenPatience;
            if (await AskAsync(request, question, addresses[i], mayBeTaken, link, logger, cancellationToken).ConfigureAwait(false) is { } state)
                return state;
            // Real time: a frozen test clock must not stop it.
            if (i == addresses.Count - 1)
            {
                await Task.Delay(pause, cancellationToken).ConfigureAwait(false);
                pause = pause * 2 < s_pauseMax ? pause * 2 : s_pauseMax;
            }
        }
    }

    private static async Task<ClusterState?> AskAsync(
        JoinRequest request, byte[] question, EndPoint address, bool mayBeTaken, IMetadataLink link, ILogger logger, CancellationToken cancellationToken)
    {
        string nodeId = request.Node.NodeId;
        try
        {
            byte[] bytes = await link.AskAddressAsync(address, question, s_askTimeout, cancellationToken).ConfigureAwait(false);
            if (FormationMessage.Decode(bytes) is not JoinAnswer answer)
                return null;
            if (answer.Refusal == FormationRefusal.OtherInstance && mayBeTaken)
                return null;
            if (answer.Refusal != FormationRefusal.None)
                throw FormationErrors.Refused(answer.Refusal, nodeId, $"{address} says so (cluster '{answer.ClusterName}')");
            if (answer.State is { } state)
            {
                MetadataLog.Joined(logger, nodeId, state.ClusterName, state.ClusterId, address.ToString()!);
                return state;
            }
        }
        catch (PeerUnavailableException error) when (error.InnerException is PeerRefusedException { Code: RefusalCode.WrongCluster } refused)
        {
            throw FormationErrors.Refused(FormationRefusal.OtherCluster, nodeId, $"at {address}: {refused.Text}");
        }
        catch (ShardForgeException error) when (error is PeerUnavailableException or OverloadedException)
        {
            // Not there, or not yet: the next one is asked.
        }
        catch (InvalidDataException error)
        {
            MetadataLog.AnswerNotUnderstood(logger, nodeId, address.ToString()!, error);
        }

        return null;
    }
}
