//! Talks to a flashed board over a serial port: `talk /dev/ttyUSB0`, after `stty -F /dev/ttyUSB0 1000000 raw -echo`.
//!
//! Lines on standard input are orders (`hello`, `enter`, `exit`, `stop`, `rearm`, `status`) or observations: numbers with spaces
//! between them, raw units, in the contract's order. What the board says comes out on standard output, one line for each message;
//! of actions at rest every hundredth. A control program would send an observation per control period and hand each action on.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write, stdin};

use firmware::frame::{ActionKind, FromBoard, Receiver, ToBoard, from_bytes, send};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which serial port? talk /dev/ttyUSB0")?;
    let mut port = OpenOptions::new().read(true).write(true).open(&path)?;
    let from = port.try_clone()?;
    std::thread::spawn(move || {
        if let Err(error) = listen(from) {
            eprintln!("{error}");
        }
    });
    say(&mut port, &ToBoard::Hello)?;
    for (sequence, line) in (1_u32..).zip(stdin().lines()) {
        let line = line?;
        let order = match line.trim() {
            "" => continue,
            "hello" => ToBoard::Hello,
            "enter" => ToBoard::Enter,
            "exit" => ToBoard::Exit,
            "stop" => ToBoard::Stop,
            "rearm" => ToBoard::Rearm,
            "status" => ToBoard::Status,
            numbers => {
                let row: Result<Vec<f32>, _> = numbers.split_whitespace().map(str::parse).collect();
                match row {
                    Ok(row) => {
                        let values: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                        say(&mut port, &ToBoard::Observation { sequence, stamp_nanos: 0, values: &values })?;
                    }
                    Err(_) => eprintln!("{numbers:?} is neither an order nor a row of numbers"),
                }
                continue;
            }
        };
        say(&mut port, &order)?;
    }
    Ok(())
}

fn say(port: &mut File, message: &ToBoard<'_>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    send(message, &mut [0; firmware::MAX_FRAME], |byte| bytes.push(byte));
    port.write_all(&bytes)
}

fn listen(mut port: File) -> std::io::Result<()> {
    let mut receiver = Receiver::<{ firmware::MAX_FRAME }>::new();
    let mut bytes = [0; 256];
    loop {
        let count = port.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        for byte in &bytes[..count] {
            if receiver.take(*byte)
                && let Some(message) = receiver.message()
            {
                show(&message);
            }
        }
    }
}

fn show(message: &FromBoard<'_>) {
    match *message {
        FromBoard::Action { tick, kind: ActionKind::Idle, .. } if tick % 100 != 0 => {}
        FromBoard::Action { tick, sequence, kind, fault, values } => {
            let mut row = vec![0.0; values.len() / 4];
            if from_bytes(values, &mut row) {
                println!("tick {tick}, of observation {sequence}: {kind:?}, fault {fault}, {row:?}");
            }
        }
        other => println!("{other:?}"),
    }
}
