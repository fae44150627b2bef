using System.Collections.Concurrent;

namespace ShardForge.Routing;

/// <summary>Remembers which nodes do not answer, so that calls try others first. After a pause, doubled with each failure, one call tries again.</summary>
/// <remarks>
/// It only orders candidates: where every candidate is open, they are tried all the same, so a breaker never makes a reachable shard unreachable.
/// Threads: safe for concurrent use.
/// </remarks>
internal sealed class CircuitBreaker(TimeProvider timeProvider)
{
    private static readonly TimeSpan s_pauseMin = TimeSpan.FromMilliseconds(50), s_pauseMax = TimeSpan.FromSeconds(2);
    private readonly ConcurrentDictionary<string, State> _states = new(StringComparer.Ordinal);

    /// <summary>Whether calls to the node should go elsewhere first. At the end of a pause exactly one caller gets false, and its result decides.</summary>
    public bool IsOpen(string nodeId)
    {
        if (!_states.TryGetValue(nodeId, out State? state))
            return false;
        lock (state)
        {
            long now = timeProvider.GetTimestamp();
            if (state.Failures == 0)
                return false;
            if (timeProvider.GetElapsedTime(state.Since, now) < state.Pause)
                return true;
            state.Since = now;
            return false;
        }
    }

    public void Succeeded(string nodeId)
    {
        if (!_states.TryGetValue(nodeId, out State? state) || Volatile.Read(ref state.Failures) == 0)
            return;
        lock (state)
            state.Failures = 0;
    }

    public void Failed(string nodeId)
    {
        State state = _states.GetOrAdd(nodeId, static _ => new State());
        lock (state)
        {
            state.Failures = Math.Min(state.Failures + 1, 16);
            state.Since = timeProvider.GetTimestamp();
            TimeSpan pause = s_pauseMin * (1 << Math.Min(state.Failures - 1, 10));
            state.Pause = pause < s_pauseMax ? pause : s_pauseMax;
        }
    }

    private sealed class State
    {
        public int Failures;
        public long Since;
        public TimeSpan Pause;
    }
}
