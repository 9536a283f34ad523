//! Criterion's wall clock, with throughput printed as GFLOP/s.

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};

/// [`WallTime`] whose [`Throughput::Elements`] are floating-point operations.
pub struct FlopTime(pub WallTime);

impl Measurement for FlopTime {
    type Intermediate = <WallTime as Measurement>::Intermediate;
    type Value = <WallTime as Measurement>::Value;

    fn start(&self) -> Self::Intermediate {
        self.0.start()
    }

    fn end(&self, start: Self::Intermediate) -> Self::Value {
        self.0.end(start)
    }

    fn add(&self, left: &Self::Value, right: &Self::Value) -> Self::Value {
        self.0.add(left, right)
    }

    fn zero(&self) -> Self::Value {
        self.0.zero()
    }

    fn to_f64(&self, value: &Self::Value) -> f64 {
        self.0.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for FlopTime {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        self.0.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let Throughput::Elements(flops) = throughput else {
            return self.0.formatter().scale_throughputs(typical, throughput, values);
        };
        // Values are nanoseconds, and a flop a nanosecond is a GFLOP/s.
        for value in values {
            *value = *flops as f64 / *value;
        }
        "GFLOP/s"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        self.0.formatter().scale_for_machines(values)
    }
}
